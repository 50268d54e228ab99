"""QEMU for machines that outlive their starter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import UnavailableError
from core_infra.vm.guest.protocol import PORT_NAME
from core_infra.vm.hypervisors.hosted import CONSOLE_LOG, PID_FILE
from core_infra.vm.hypervisors.qemu import MEMORY, QemuHypervisor, board, firmware, kernel

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm.hypervisors.hosted import Disk, HostedSpec, Share

QGA_PORT_NAME = "org.qemu.guest_agent.0"

_UEFI = ("edk2-aarch64-code.fd", "../qemu-efi-aarch64/QEMU_EFI.fd", "../AAVMF/AAVMF_CODE.fd")


class HostedQemu(QemuHypervisor):
    """QEMU's system emulators."""

    has_monitor = True

    def build(self, spec: HostedSpec, accelerator: str) -> list[str]:
        """The command that runs *spec*; the port tells the arguments."""
        return [
            str(self.program(spec.arch)),
            *("-name", _escaped(spec.name)),
            *_memory(spec),
            *_board(spec, accelerator),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            # The guest waits until its ports are forwarded and its record is written.
            *("-S", "-pidfile", str(spec.directory / PID_FILE)),
            *_lines(spec),
            *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=entropy"),
            # Forwarded ports are added later, on the loopback address.
            *("-netdev", f"user,id=net0,restrict={'on' if spec.isolated else 'off'}"),
            *("-device", f"virtio-net-pci,id=nic0,netdev=net0,romfile=,mac={spec.mac}"),
            *_disks(spec),
            *(part for number, share in enumerate(spec.shares) for part in _share(number, share)),
        ]


def _memory(spec: HostedSpec) -> list[str]:
    shared = any(share.socket for share in spec.shares)  # with who serves virtiofs
    kind = "memory-backend-memfd,share=on" if shared else "memory-backend-ram"
    return ["-object", f"{kind},id={MEMORY},size={spec.memory}M"]


def _board(spec: HostedSpec, accelerator: str) -> list[str]:
    base = board(spec.arch, accelerator)
    if spec.image is not None:
        # What is in memory only is gone with a restart: then the machine ends, as it does after
        # a panic, which restarts it.
        return [*base, *kernel(spec.image, accelerator), "-no-reboot"]
    if "-bios" in base:  # the one that does nothing but start a kernel
        at = base.index("-bios")
        del base[at : at + 2]
    return [*base, *_uefi()] if spec.arch == "aarch64" else base


def _uefi() -> list[str]:
    found = next((path for name in _UEFI if (path := firmware(name))), None)
    if found is None:
        raise UnavailableError(
            "cannot boot a disk for aarch64",
            why="there is no UEFI firmware",
            todo="Install it: apt-get install qemu-efi-aarch64",
        )
    return ["-bios", str(found)]


def _lines(spec: HostedSpec) -> list[str]:
    log = _escaped(spec.directory / CONSOLE_LOG)
    options = {"console": f",logfile={log},logappend=on"}
    arguments = []
    for name, fd in spec.lines.items():
        chardev = f"socket,id={name},fd={fd},server=on,wait=off{options.get(name, '')}"
        arguments += ["-chardev", chardev]
    arguments += ["-mon", "chardev=monitor,mode=control", "-serial", "chardev:console"]
    arguments += ["-device", "virtio-serial-pci"]
    for line, port in (("agent", PORT_NAME), ("qga", QGA_PORT_NAME)):
        if line in spec.lines:
            arguments += ["-device", f"virtserialport,chardev={line},name={port}"]
    return arguments


def _disks(spec: HostedSpec) -> list[str]:
    arguments = []
    if any(disk.disc for disk in spec.disks):
        arguments += ["-device", "virtio-scsi-pci,id=scsi0"]
    for number, disk in enumerate(spec.disks):
        arguments += _drive(number, disk, spec.arch)
    return arguments


def _drive(number: int, disk: Disk, arch: str) -> list[str]:
    # The format is always told: guessed, a raw disk's guest could write itself another one, with
    # a file of this host as its backing.
    format_ = "raw" if disk.format == "iso" else disk.format
    file = f"if=none,id=disk{number},file={_escaped(disk.path)},format={format_}"
    file += ",readonly=on" if disk.read_only else ",discard=unmap"
    if disk.disc:
        # An installer looks for its disc on a controller that every system knows.
        ahci = disk.boot and arch == "x86_64"
        device = "ide-cd" if ahci else "scsi-cd,bus=scsi0.0"
    else:
        device = "virtio-blk-pci"
    boot = ",bootindex=0" if disk.boot else ""
    return ["-drive", file, "-device", f"{device},drive=disk{number}{boot}"]


def _share(number: int, share: Share) -> list[str]:
    name = f"share{number}"
    if share.socket is not None:
        return [
            *("-chardev", f"socket,id={name},path={_escaped(share.socket)}"),
            *("-device", f"vhost-user-fs-pci,chardev={name},tag={share.tag}"),
        ]
    # What the guest makes belongs to who runs the machine, whoever makes it.
    return [
        *("-fsdev", f"local,id={name},path={_escaped(share.path)},security_model=none"),
        *("-device", f"virtio-9p-pci,fsdev={name},mount_tag={share.tag}"),
    ]


def _escaped(text: str | Path) -> str:
    return str(text).replace(",", ",,")  # QEMU's quoting
