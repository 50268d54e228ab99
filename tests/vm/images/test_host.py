"""What of this host is in its image."""

import shutil
import subprocess
from pathlib import Path

import pytest

from core_infra.vm import Image, Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images import host
from core_infra.vm._images.host import LEFT_OUT

PRIVATE = ("it is private to this host", "not every user may read it")
MADE_ANEW = {"/etc/fstab", "/etc/hostname", "/etc/machine-id", "/etc/resolv.conf", "/etc/shadow"}
FIND = 'while read -r path; do [ ! -e "$path" ] || echo "$path"; done'


@pytest.mark.parametrize(
    "path",
    [
        *("root", "home", "home/user/.ssh", "etc/shadow", "etc/shadow-", "etc/ssl/private/a.key"),
        *("etc/ssh/ssh_host_ed25519_key", "etc/sudoers.d/x", "etc/machine-id", "var/lib/mysql"),
        *("proc", "run/secrets", "etc/apt/auth.conf.d/token", "etc/wireguard/wg0.conf", "tmp"),
    ],
)
def test_secrets_and_what_belongs_to_the_running_host_stay_out(path: str) -> None:
    parts = path.encode().split(b"/")
    ways = [b"/".join(parts[: number + 1]) for number in range(len(parts))]
    assert any(host._why_not(way) for way in ways)


@pytest.mark.parametrize(
    "path",
    [
        "usr",
        "usr/bin/python3",
        "etc/passwd",
        "etc/ssh/sshd_config",
        "opt/app/bin/x",
        "var/lib/dpkg",
    ],
)
def test_what_is_installed_is_in_it(path: str) -> None:
    parts = path.encode().split(b"/")
    ways = [b"/".join(parts[: number + 1]) for number in range(len(parts))]
    assert not any(host._why_not(way) for way in ways)


@pytest.mark.soak  # it reads and writes all that is installed here
def test_its_programs_run_in_a_machine_without_its_secrets(launcher: Launcher) -> None:
    counted = ["du", "--summarize", "--one-file-system", "--block-size=1", "/usr", "/opt"]
    sizes = subprocess.run(counted, stdout=subprocess.PIPE, text=True, check=False).stdout
    needed = sum(int(line.split()[0]) for line in sizes.splitlines())
    if shutil.disk_usage(cache_root()).free < 1.5 * needed:
        pytest.skip(f"there is no room for a copy of this host: {needed >> 30} GiB")
    image = launcher.make_image("host")
    assert isinstance(image, Image)
    try:
        machine = launcher.clone(image)
        release = Path("/etc/os-release").read_text()
        assert machine.read_text("/etc/os-release") == release
        assert machine.exec("python3 -c 'print(6 * 7)'", check=True).stdout == "42\n"
        listed = (image.kernel.parent / LEFT_OUT).read_text().splitlines()
        left_out = dict(line.split("\t") for line in listed)
        secrets = [path for path, why in left_out.items() if why in PRIVATE]
        assert "/etc/shadow" in secrets
        found = machine.exec(FIND, input="\n".join(secrets) + "\n", check=True).stdout
        assert set(found.splitlines()) <= MADE_ANEW
        passwords = {line.split(":")[1] for line in machine.read_text("/etc/shadow").splitlines()}
        assert passwords == {"*"}
        assert machine.exec("find /root /home -mindepth 1", check=True).stdout == ""
        launcher.discard(machine)
    finally:
        shutil.rmtree(image.kernel.parent)  # it is as large as this host
