"""Brings the agent into images that do not have it, by the way in which they start programs.

- A kernel with its initrd, as ``linuxkit build`` makes them: Linux unpacks several archives in a
  row, so an archive with the agent is appended to the image's own. LinuxKit's init runs everything
  in ``/etc/init.d``.
- A disk that boots by itself: cloud-init looks for a disc named ``cidata`` (NoCloud) and runs the
  commands there.
- A disk with the root file system of a separate kernel: not supported. Install the agent on it.

The image's own files are not changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._binaries import agent_binary
from core_infra.vm._cache import cache_root, found, writable
from core_infra.vm._free_space import written
from core_infra.vm._guest.protocol import PORT_NAME
from core_infra.vm._hardware import Disk
from core_infra.vm._images.cloud_init import write_disc
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, disk_of
from core_infra.vm._images.initrd import cpio, file

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.image import Bootable, Image

_KEPT = 8

_PLACE = "/usr/local/sbin/core-infra-agent"
# QEMU's network without a gateway answers nothing by IPv6. The addresses that Linux makes of the
# hardware address would be made again in each clone, and announced: a quarter of a clone's cost.
# An address that the image has configured itself (flag 80: permanent; scope 00: global) stays.
_SCRIPT = f"""\
#!/bin/sh
if ! grep -q '^[^\t]*\t00000000\t' /proc/net/route &&
    ! grep -q ' 00 8. *eth0$' /proc/net/if_inet6; then
    echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
fi 2>/dev/null
# The agent ends when it is killed, and is started again.
while :; do {_PLACE} --port {PORT_NAME}; sleep 1; done </dev/null >/dev/null 2>&1 &
"""
# With systemd, the agent starts when the system is up: earlier, the snapshot would be of a boot in
# progress. KillMode=process stops only the agent, not what a command has left running. The unit is
# transient: cloud-init's bootcmd makes it at each boot.
_START = f"""\
set -e
mkdir -p /usr/local/sbin /run/core-infra-disc
mount -o ro -t iso9660 LABEL=cidata /run/core-infra-disc
cp /run/core-infra-disc/agent {_PLACE}.new
chmod 755 {_PLACE}.new
mv {_PLACE}.new {_PLACE}
umount /run/core-infra-disc
if [ -d /run/systemd/system ]; then
    exec systemd-run --no-block --unit=core-infra-agent --property=Restart=always \\
        --property=After=multi-user.target --property=After=cloud-final.service \\
        --property=KillMode=process --property=TimeoutStopSec=10 {_PLACE} --port {PORT_NAME}
fi
setsid sh -c 'while :; do {_PLACE} --port {PORT_NAME}; sleep 1; done' </dev/null >/dev/null 2>&1 &
"""


def with_agent(image: Bootable) -> tuple[Bootable, tuple[Disk, ...]]:
    """The image and the disks with which a machine's agent starts.

    Raises:
        UnavailableError: there is no agent for its architecture, or pycdlib is not installed.
    """
    disk = disk_of(image)
    disks = () if disk is None else (disk,)
    if isinstance(image, DiskImage):
        return image, (*disks, _cloud_disc(image.arch))
    if image.has_agent or image.initrd is None:
        return image, disks
    return with_agent_archive(image), disks


def agent_files(arch: str) -> dict[str, bytes]:
    """Return the agent, and the script by which LinuxKit's init starts it, by their paths.

    Raises:
        UnavailableError: there is no agent for the architecture.
    """
    return {
        _PLACE.lstrip("/"): agent_binary(arch),
        "etc/init.d/999-core-infra-agent": _SCRIPT.encode(),
    }


def with_agent_archive(image: Image) -> Image:
    """The image of a kernel and an initrd, whose init starts the agent as LinuxKit's does.

    Raises:
        UnavailableError: there is no agent for its architecture.
    """
    archive = cpio([file(path, data, 0o755) for path, data in agent_files(image.arch).items()])
    initrd = image.initrd
    assert initrd is not None  # noqa: S101 - checked above
    status = initrd.stat()
    stamp = [str(initrd), status.st_ino, status.st_size, status.st_mtime_ns]
    name = f"{_digest(archive, json.dumps(stamp).encode())}-initrd.img"

    def write(path: Path) -> None:
        shutil.copyfile(initrd, path)
        with path.open("ab") as target:
            target.write(b"\0" * (-target.tell() % 4) + archive)

    return dataclasses.replace(image, initrd=_made(name, write))


def _cloud_disc(arch: str) -> Disk:
    """The disc that cloud-init takes the agent from."""
    agent = agent_binary(arch)
    user_data = {"bootcmd": [["sh", "-c", _START]], "ssh_pwauth": False}
    files = {
        "user-data": b"#cloud-config\n" + json.dumps(user_data, indent=1).encode() + b"\n",
        "meta-data": json.dumps({"instance-id": "core-infra"}).encode() + b"\n",
        "agent": agent,
    }
    name = f"{_digest(*files.values())}-cidata.iso"
    path = _made(name, lambda path: write_disc(path, files))
    return Disk(path, ImageFormat.ISO, read_only=True, disc=True, content=name)


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()[:24]


def _made(name: str, write: Callable[[Path], None]) -> Path:
    """A file of the cache, made if it is not there, in one step."""
    directory = cache_root() / "delivery"
    if kept := found(directory, name):
        return kept
    directory = writable(directory)
    path = directory / name
    with written("the agent's image", directory):
        with tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as work:
            made = Path(work) / name
            write(made)
            made.rename(path)
        for old in sorted(directory.glob("[!.]*"), key=_age)[_KEPT:]:
            old.unlink(missing_ok=True)
    return path


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return 0
