"""The agent comes into images that were made without it, and they stay as they are."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from core_infra.vm import GuestGoneError, Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images.agent_injection import with_agent
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, host_arch
from core_infra.vm._images.initrd import cpio, file
from core_infra.vm._images.kernel_set import load_kernel_set

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# LinuxKit's init runs what is in /etc/init.d, by name, and waits for each.
START = """\
#!/bin/sh
/etc/init.d/rcS
for script in /etc/init.d/[0-9]*; do "$script"; done
"""
INITTAB = """\
::sysinit:/etc/init.d/start
{console}::respawn:-/bin/sh
"""


@pytest.fixture
def linuxkit(tmp_path: Path) -> Path:
    """A set as ``linuxkit build`` makes it, with an init that starts no agent."""
    default = default_image(host_arch(), cache_dir=cache_root())
    assert default.initrd is not None
    own = cpio(
        [
            file("etc/init.d/start", START.encode(), 0o755),
            file("etc/init.d/010-service", b"#!/bin/sh\necho up >/run/service\n", 0o755),
            file("etc/inittab", INITTAB.format(console=default.console).encode()),
        ]
    )
    first = default.initrd.read_bytes()
    (tmp_path / "kit-kernel").write_bytes(default.kernel.read_bytes())
    (tmp_path / "kit-initrd.img").write_bytes(first + b"\0" * (-len(first) % 4) + own)
    (tmp_path / "kit-cmdline").write_text(default.cmdline)
    return tmp_path / "kit"


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    with Launcher(accelerator="tcg", memory=128) as launcher:
        yield launcher


def digests(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}


def test_into_a_linuxkit_image(linuxkit: Path, launcher: Launcher) -> None:
    before = digests(linuxkit.parent)
    image = load_kernel_set(linuxkit)
    first, second = launcher.clone(image), launcher.clone(image)
    assert first.read_text("/run/service") == "up\n", "its own services came before"
    first.write_text("/root/mine", "x")
    assert second.exec("test -e /root/mine").exit_code == 1
    with pytest.raises(GuestGoneError):
        second.exec("kill -9 $(pidof core-infra-agent); sleep 600")
    assert second.exec("echo back").stdout == "back\n"
    assert digests(linuxkit.parent) == before


@pytest.mark.long
def test_into_a_cloud_image(launcher: Launcher, tmp_path: Path) -> None:
    image = DiskImage(tmp_path / "cloud.qcow2", ImageFormat.QCOW2, host_arch(), "cloud")
    boots, (disk, disc) = with_agent(image)
    assert boots == image
    assert (disk.path, disk.boot, disc.disc) == (image.path, True, True)
    machine = launcher.boot(disks=[disc.path])
    machine.exec("mount -t iso9660 -o ro /dev/vda /mnt", check=True)
    about = machine.read_text("/mnt/user-data")
    first, _, rest = about.partition("\n")
    assert first == "#cloud-config"
    assert json.loads(machine.read_text("/mnt/meta-data"))["instance-id"]
    (command,) = json.loads(rest)["bootcmd"]
    machine.exec("umount /mnt; rm -f /run/core-infra-agent", check=True)
    machine.exec([*command[:-1], command[-1].replace("LABEL=cidata", "/dev/vda")], check=True)
    machine.wait_until_succeeds("pidof core-infra-agent | grep -q ' '")
    machine.exec("cmp /usr/local/sbin/core-infra-agent /usr/bin/core-infra-agent", check=True)


def test_an_image_of_ours_is_left_alone() -> None:
    image = default_image(host_arch(), cache_dir=cache_root())
    assert with_agent(image) == (image, ())
