"""A machine made of packages: its services run, are started again, and survive a reboot."""

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_infra.errors import NotFoundError
from core_infra.vm import Image, Launcher, Machine
from core_infra.vm._cache import cache_root
from core_infra.vm._machine import record_of

pytestmark = [
    pytest.mark.long,  # it configures a hundred packages and boots systemd
    pytest.mark.skipif(not shutil.which("apt-get"), reason="this host has no apt"),
]


@pytest.fixture(
    scope="module", params=["debian:12", pytest.param("debian:13", marks=pytest.mark.soak)]
)
def image(request: pytest.FixtureRequest, launcher: Launcher) -> Image:
    found = launcher.make_image(request.param, packages=["nginx-light"])
    assert isinstance(found, Image)
    return found


@pytest.fixture
def server(image: Image, launcher: Launcher) -> Iterator[Machine]:
    machine = launcher.clone(image)
    yield machine
    launcher.discard(machine)


def test_its_services_run_and_its_packages_are_configured(server: Machine) -> None:
    server.wait_for_port(80)
    states = server.exec("dpkg-query -W -f='${db:Status-Abbrev}\n' | sort -u", check=True)
    assert states.stdout == "ii \n"
    assert server.exec("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert server.exec("ls /usr/sbin/policy-rc.d").exit_code != 0


def test_a_unit_that_failed_is_found(server: Machine) -> None:
    server.write_text(
        "/etc/systemd/system/app.service",
        "[Service]\nExecStart=/bin/sh -c 'echo cannot open db >&2; exit 3'\n",
    )
    server.exec("systemctl daemon-reload; systemctl start app", check=True)
    server.wait_until_succeeds("systemctl is-failed app.service")
    assert record_of(server).changes().units == ["app.service"]


def test_a_unit_that_is_killed_restarts_and_a_reboot_keeps_the_disk(server: Machine) -> None:
    server.exec("mkdir -p /etc/systemd/system/nginx.service.d", check=True)
    server.write_text(
        "/etc/systemd/system/nginx.service.d/restart.conf", "[Service]\nRestart=always\n"
    )
    server.exec("systemctl daemon-reload", check=True)
    server.exec("kill -9 $(systemctl show --value -p MainPID nginx)", check=True)
    server.wait_until_succeeds("systemctl is-active nginx")
    boot = server.read_text("/proc/sys/kernel/random/boot_id")
    server.write_text("/srv/kept", "kept\n")
    server.reboot()
    assert server.read_text("/proc/sys/kernel/random/boot_id") != boot
    assert server.read_text("/srv/kept") == "kept\n"
    server.wait_until_succeeds("systemctl is-active nginx")


def test_it_is_made_once(image: Image, launcher: Launcher) -> None:
    address = "debian:12" if "bookworm" in image.name else "debian:13"
    assert launcher.make_image(address, packages=["nginx-light"]) == image
    with Launcher(progress=pytest.fail) as other:
        assert other.make_image(address, packages=["nginx-light"]) == image


@pytest.mark.soak  # it makes the image a second time
def test_two_builds_have_the_same_bytes(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert image.disk is not None
    archives = f"debian/{image.arch}/archives"
    cache = tmp_path / "another user's"
    shutil.copytree(cache_root() / archives, cache / archives, ignore=lambda *_: ["partial"])
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(cache))
    address = "debian:12" if "bookworm" in image.name else "debian:13"
    with Launcher() as other:
        again = other.make_image(address, packages=["nginx-light"])
    assert isinstance(again, Image)
    assert again.disk is not None
    assert again.disk != image.disk
    assert filecmp.cmp(again.disk, image.disk, shallow=False)


def test_an_unknown_package_leaves_nothing(launcher: Launcher) -> None:
    with pytest.raises(NotFoundError, match=r"no such package: .*no-such-package"):
        launcher.make_image("debian:12", packages=["no-such-package"])
