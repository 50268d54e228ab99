"""The shipped templates do what they say, with images of Debian's packages for the public ones."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from core_infra.vm import Launcher, Machine
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default import apt
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit.archives import write_tar
from core_infra.vm._images.linuxkit.image_cache import template_image
from core_infra.vm._images.linuxkit.own_init import libraries, own_init
from core_infra.vm._images.linuxkit.root import Root
from linuxkit_images import default_tree, write_busybox
from linuxkit_standin import ARCHES
from oci_images import Entry, folder, layer, link, write_layout
from oci_registry import LayoutRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ssh", "ssh-keygen"))), reason="OpenSSH is not installed"
    ),
]


def tar(tree: Node) -> bytes:
    file = io.BytesIO()
    write_tar(tree, file)
    return file.getvalue()


def script(path: str, text: str) -> Entry:
    return Entry(path, data=f"#!/bin/sh\n{text}\n".encode(), mode=0o755)


def with_libraries(path: str, program: Path, unpacked: Path) -> list[Entry]:
    """A program of unpacked packages, and the libraries that it needs."""
    files = {path: program} | libraries(program, unpacked)
    return [
        link("lib", "usr/lib"),
        link("lib64", "usr/lib"),
        link(f"usr/lib/{host_arch()}-linux-gnu", "."),
        *(Entry(name, data=file.read_bytes(), mode=0o755) for name, file in files.items()),
    ]


def fetch(names: list[str], *, needed: bool) -> dict[apt.Package, Path]:
    return apt.fetch(
        names,
        ARCHES[host_arch()],
        directory=cache_root() / "test-packages",
        state=cache_root() / "apt" / host_arch(),
        progress=lambda _line: None,
        libraries=needed,
    )


def unpack_packages(target: Path) -> None:
    """Unpack PHP and an SSH server, with the packages of their libraries."""
    depends = next(iter(fetch(["php-cli"], needed=False))).depends
    (php,) = re.findall(r"php[0-9.]+-cli", depends)
    for path in fetch([php, "dropbear-bin", "zlib1g"], needed=True).values():
        subprocess.run(["dpkg-deb", "--extract", path, target], check=True)


def write_kernel(target: Path) -> Path:
    """The default image's kernel and modules, as LinuxKit's kernel images have them."""
    modules = Root()
    modules.put(default_tree().entries[b"usr"].entries[b"lib"].entries[b"modules"], "lib/modules")
    kernel = default_image(host_arch(), cache_dir=cache_root()).kernel.read_bytes()
    entries = [Entry("kernel", data=kernel), Entry("kernel.tar", data=tar(modules.tree))]
    write_layout(target, [layer(entries)])
    return target


def write_init(target: Path, work: Path) -> Path:
    """Our own init with its container runtime, in place of LinuxKit's."""
    work.mkdir()
    system = own_init(default_tree(), host_arch(), work, lambda _line: None)
    write_layout(target, [tar(system)])
    return target


def write_images(work: Path) -> dict[str, Path]:
    """Layouts by the last part of their images' names; "" is for all others."""
    unpacked = work / "packages"
    unpack_packages(unpacked)
    write_busybox(
        work / "idle",
        label={"capabilities": ["all"]},
        more=[
            link("bin/sleep", "busybox"),
            script("sbin/dhcpcd", "exit 0"),
            script("usr/local/bin/docker-init", 'exec "$@"'),
            script("usr/local/bin/dockerd", "exec sleep 100000"),
        ],
        Cmd=["/bin/sleep", "100000"],
    )
    write_busybox(work / "sysctl", Cmd=["/bin/sh", "-c", "exit 0"])
    write_busybox(
        work / "sshd",
        label={"capabilities": ["all"]},
        more=[
            *with_libraries("usr/bin/dropbear", unpacked / "usr/sbin/dropbear", unpacked),
            folder("etc/dropbear"),
            Entry("etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\n"),
            Entry("etc/shells", data=b"/bin/sh\n"),
            folder("root", mode=0o700),
        ],
        Cmd=["/usr/bin/dropbear", "-F", "-E", "-R", "-s"],
    )
    (php,) = (unpacked / "usr" / "bin").glob("php[0-9]*")
    write_busybox(
        work / "frankenphp",
        more=[
            *with_libraries("usr/bin/php", php, unpacked),
            link("bin/grep", "busybox"),
            # Its arguments: run --config Caddyfile.
            script(
                "usr/bin/frankenphp",
                "grep -q php_server $3 && exec php -S 0.0.0.0:80 -t /app/public",
            ),
        ],
        Env=["PATH=/usr/bin:/bin"],
    )
    return {
        "kernel": write_kernel(work / "kernel"),
        "init": write_init(work / "init", work / "runtime"),
        "": work / "idle",
    } | {name: work / name for name in ("sysctl", "sshd", "frankenphp")}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def _registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A registry with all images of the templates, in place of Docker's."""
    work = tmp_path_factory.mktemp("registry")
    config = work / "containers" / "registries.conf"
    config.parent.mkdir()
    # A cache without the images of an earlier run: a name that is there is not asked for again.
    cache = work / "cache"
    cache.mkdir()
    with LayoutRegistry(write_images(work)) as registry, pytest.MonkeyPatch.context() as patch:
        config.write_text(
            '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
            f'[[registry.mirror]]\nlocation = "{registry.address}"\ninsecure = true\n'
        )
        for path in cache_root().iterdir():
            if path.name not in {"oci", "linuxkit", "snapshots"}:
                (cache / path.name).symlink_to(path)
        patch.setenv("XDG_CONFIG_HOME", str(work))
        patch.setenv("CORE_INFRA_CACHE_DIR", str(cache))
        yield


@pytest.fixture
def machine(request: pytest.FixtureRequest, key: Path) -> Iterator[Machine]:
    """A machine of a template, which lets the owner of the key in."""
    public = key.with_suffix(".pub").read_text().strip()
    image = template_image(request.param, {"SSH_KEY": public}, progress=print)
    with Launcher(image=image, progress=print) as launcher:
        yield launcher.clone()


def ssh(machine: Machine, key: Path, command: str) -> str:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")
    words = [word for option in options for word in ("-o", option)]
    done = subprocess.run(
        ["ssh", "-i", key, *words, "-p", str(machine.port(22)), "root@127.0.0.1", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + machine.exec("cat /var/log/sshd.log").stdout
    return done.stdout


@pytest.mark.parametrize("machine", ["server-php"], indirect=True)
def test_server_php_serves_php_and_lets_its_owner_in(machine: Machine, key: Path) -> None:
    machine.wait_for_port(80)
    address = f"http://127.0.0.1:{machine.port(80)}/"
    with urllib.request.urlopen(address, timeout=120) as answer:
        assert "PHP Version" in answer.read().decode()
    machine.wait_for_port(22)
    assert ssh(machine, key, "ls /srv/app/public") == "index.php\n"


@pytest.mark.parametrize("machine", ["core-dev"], indirect=True)
def test_core_dev_runs_its_services_and_lets_its_owner_in(machine: Machine, key: Path) -> None:
    machine.wait_for_port(22)
    assert ssh(machine, key, "echo x >/work/made; echo done") == "done\n"
    for name in ("go", "node", "php", "docker"):
        seen = machine.exec(f"oci-runtime exec {name} /bin/busybox cat /work/made", check=True)
        assert seen.stdout == "x\n", name
