"""QEMU's arguments for disks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._hypervisors.disposable import Disk


NODE = "disk"
"""What the names of QEMU's nodes for the disks begin with; a number follows."""


def drives(disks: Sequence[Disk], arch: str) -> list[str]:
    """The arguments that give a machine its disks, and boot the one that is to be booted."""
    arguments = []
    if any(disk.disc for disk in disks):
        arguments += ["-device", "virtio-scsi-pci,id=scsi0"]
    for number, disk in enumerate(disks):
        arguments += ["-blockdev", json.dumps(_node(f"{NODE}{number}", disk))]
        arguments += ["-device", _device(number, disk, arch)]
    return arguments


def _node(name: str, disk: Disk) -> dict[str, object]:
    # The format is always told: guessed, a raw disk's guest could write itself another one, with
    # a file of this host as its backing.
    file = {"driver": "file", "filename": str(disk.path)}
    return {
        "driver": "raw" if disk.format == "iso" else disk.format,
        "node-name": name,
        "file": file if disk.locked else file | {"locking": "off"},
        **({"read-only": True} if disk.read_only else {"discard": "unmap"}),
    }


def _device(number: int, disk: Disk, arch: str) -> str:
    if disk.disc:
        # An installer looks for its disc on a controller that every system knows.
        ahci = disk.boot and arch == "x86_64"
        device = "ide-cd" if ahci else "scsi-cd,bus=scsi0.0"
    else:
        # A write that fails pauses the machine, whatever the reason: QEMU's own default does that
        # for a full disk only, and tells the guest of a quota as of a broken disk.
        device = "virtio-blk-pci" + ("" if disk.read_only else ",werror=stop")
    boot = ",bootindex=0" if disk.boot else ""
    return f"{device},id=drive{number},drive={NODE}{number}{boot}"
