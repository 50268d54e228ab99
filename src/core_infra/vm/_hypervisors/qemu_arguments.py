"""The arguments of QEMU for the parts of a machine."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, shutil
from core_infra.errors import UnavailableError
from core_infra.vm._guest.protocol import AGENT_PORTS, port_name
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, agent_socket_name
from core_infra.vm._hypervisors.processor import kernel_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._hardware import Disk
    from core_infra.vm._hypervisors.hypervisor import MemoryFile, PersistentSpec, Share
    from core_infra.vm._images.image import Image

MEMORY = "ram"
"""QEMU's name of the machine's memory."""

DISK_NODE = "disk"
"""The prefix of the names of QEMU's nodes for disks; a number follows."""

_QGA_PORT_NAME = "org.qemu.guest_agent.0"
UEFI = ("edk2-aarch64-code.fd", "../qemu-efi-aarch64/QEMU_EFI.fd", "../AAVMF/AAVMF_CODE.fd")
_FIRMWARE_DIRS = ("/usr/share/qemu", "/usr/local/share/qemu", "/opt/homebrew/share/qemu")


def escaped(text: str | Path) -> str:
    """A part of an argument, with its commas quoted as QEMU wants it."""
    return str(text).replace(",", ",,")


def chardev(name: str, fd: int) -> list[str]:
    """A connected socket that QEMU inherits."""
    return ["-chardev", f"socket,id={name},fd={fd}"]


def queues(accelerator: str) -> list[str]:
    """Where the queues of virtio devices are handled.

    A guest waits in a loop until its card has a new address, or the host has its port's output.
    With KVM, another thread handles that. Under emulation, the guest's own thread does it at once:
    otherwise the guest would use up its time until the host has run the other one.
    """
    if accelerator == "kvm":
        return []
    devices = ("virtio-net-pci", "virtio-serial-pci")
    return [part for device in devices for part in ("-global", f"{device}.ioeventfd=off")]


def network_card(number: int, fd: int) -> list[str]:
    """A card on a network of the run, with a packet socket that QEMU inherits.

    The guest's agent knows the card by its address (``csrc/agent/cards.c``).
    """
    name = f"lan{number}"
    mac = f"02:ca:fe:00:00:{number:02x}"
    options = f"romfile=,guest_announce=off,mac={mac}"
    return [
        *("-netdev", f"dgram,id={name},local.type=fd,local.str={fd}"),
        *("-device", f"virtio-net-pci,id={name}-card,netdev={name},{options}"),
    ]


def memory_arguments(size: int, file: MemoryFile | None) -> list[str]:
    """The memory, of *size* MiB, in a file if there is one."""
    # The id is always the same: it is the memory's name in a saved state.
    kind = "memory-backend-ram"
    if file is not None:
        path = escaped(file.path)
        share = "on" if file.shared else "off"
        kind = f"memory-backend-file,mem-path={path},share={share}"
    return ["-object", f"{kind},id={MEMORY},size={size}M"]


def shared_memory(size: int, *, shared: bool) -> list[str]:
    """The memory, of *size* MiB; *shared* with the processes that serve directories by virtiofs."""
    kind = "memory-backend-memfd,share=on" if shared else "memory-backend-ram"
    return ["-object", f"{kind},id={MEMORY},size={size}M"]


def board(arch: str, accelerator: str, cpu: str, *, boots_kernel: bool = True) -> list[str]:
    """The machine, its processor and its firmware.

    Args:
        arch: the guest's architecture.
        accelerator: how its instructions run.
        cpu: the processor, as :func:`~.processor.processor` gives it.
        boots_kernel: whether it boots a kernel; else a disk.

    Raises:
        UnavailableError: it boots a disk, and there is no firmware for that.
    """
    if arch == "aarch64":
        board = f"virt,gic-version=max,memory-backend={MEMORY}"
        bios = [] if boots_kernel else ["-bios", str(_uefi())]
    else:
        # QEMU 10 runs an HPET on that the guest has turned off: it wakes up 250 times a second.
        board = f"q35,hpet=off,memory-backend={MEMORY}"
        qboot = firmware("qboot.rom", arch)  # a BIOS that does nothing but start the kernel
        bios = ["-bios", str(qboot)] if qboot and boots_kernel else []
    return ["-M", board, "-accel", accelerator, "-cpu", cpu, *bios]


def _uefi() -> Path:
    found = next((path for name in UEFI if (path := firmware(name, "aarch64"))), None)
    if found is None:
        raise UnavailableError(
            "cannot boot a disk for aarch64",
            why="there is no UEFI firmware",
            todo="Install it: apt-get install qemu-efi-aarch64",
        )
    return found


def kernel(
    image: Image, cpu: str, accelerator: str, version: str, *, restarts: bool = False
) -> list[str]:
    """What the machine boots, and the kernel's arguments on this processor of this QEMU.

    Args:
        image: the kernel's.
        cpu: the processor, as :func:`~.processor.processor` gives it.
        accelerator: how the guest's instructions run.
        version: QEMU's.
        restarts: the guest may restart; else a restart ends QEMU.
    """
    initrd = [] if image.initrd is None else ["-initrd", str(image.initrd)]
    # panic=-1: a kernel that panics restarts at once, which -no-reboot turns into QEMU's end.
    panic = [] if restarts or "panic=" in image.cmdline else ["panic=-1"]
    arguments = [
        image.cmdline,
        *panic,
        *_timer_arguments(image.arch, accelerator),
        *kernel_arguments(image, cpu, accelerator, version),
    ]
    return ["-kernel", str(image.kernel), *initrd, "-append", " ".join(arguments)]


def _timer_arguments(arch: str, accelerator: str) -> list[str]:
    # An emulated guest that calibrates its timers on a busy host measures wrong values, or hangs.
    # So it gets the values: under TCG on x86 the guest's time stamp counter is the host's.
    khz = _host_khz() if arch == "x86_64" and accelerator == "tcg" else None
    return [f"tsc_early_khz={khz}", f"lpj={2 * khz}", "no_timer_check"] if khz else []


@functools.cache
def _host_khz() -> int | None:
    try:
        match = re.search(
            r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        return None
    return round(float(match[1]) * 1000) if match else None


def firmware(name: str, arch: str) -> Path | None:
    """The file of a firmware that comes with QEMU; None where it is not installed."""
    return _firmware(name, shutil.which(f"qemu-system-{arch}") or "")


@functools.cache
def _firmware(name: str, program: str) -> Path | None:
    # The one that belongs to the program, wherever that was installed, comes first.
    own = Path(program).resolve().parent.parent / "share/qemu"
    places = [own, *map(Path, _FIRMWARE_DIRS)]
    return next((path for place in places if (path := place / name).is_file()), None)


def drives(disks: Sequence[Disk], arch: str) -> list[str]:
    """The disks of a machine; it boots the one with ``boot``."""
    arguments = []
    if any(disk.disc for disk in disks):
        arguments += ["-device", "virtio-scsi-pci,id=scsi0"]
    for number, disk in enumerate(disks):
        arguments += ["-blockdev", json.dumps(_node(f"{DISK_NODE}{number}", disk))]
        arguments += ["-device", _device(number, disk, arch)]
    return arguments


def _node(name: str, disk: Disk) -> dict[str, object]:
    # The format is always given: if QEMU guessed it, the guest of a raw disk could write a header
    # of another format that names a file of this host as its backing.
    file = {"driver": "file", "filename": str(disk.path)}
    return {
        "driver": "raw" if disk.format == "iso" else disk.format,
        "node-name": name,
        "file": file if disk.locked else file | {"locking": "off"},
        **({"read-only": True} if disk.read_only else {"discard": "unmap"}),
    }


def _device(number: int, disk: Disk, arch: str) -> str:
    if disk.disc:
        # An installer expects its disc on a controller that every system supports.
        ahci = disk.boot and arch == "x86_64"
        device = "ide-cd" if ahci else "scsi-cd,bus=scsi0.0"
    else:
        # A write that fails pauses the machine, whatever the reason: QEMU's default does that only
        # for a full disk, and reports an exceeded quota to the guest as a broken disk. With the
        # library in QEMU, each reason of the host's is a full disk, and any other error is a fault
        # that a test wants, which the guest must see.
        error = "enospc" if disk.volatile else "stop"
        # Shared: corrupting a disk writes to it beside the guest.
        device = "virtio-blk-pci" + ("" if disk.read_only else f",werror={error},share-rw=on")
    boot = ",bootindex=0" if disk.boot else ""
    return f"{device},id=drive{number},drive={DISK_NODE}{number}{boot}"


def socket_arguments(spec: PersistentSpec) -> list[str]:
    """The sockets of a machine that persists: monitor, console, agents."""
    log = escaped(spec.directory / CONSOLE_LOG)
    options = {"console": f",logfile={log},logappend=on"}
    arguments = []
    for name, fd in spec.sockets.items():
        chardev = f"socket,id={name},fd={fd},server=on,wait=off{options.get(name, '')}"
        arguments += ["-chardev", chardev]
    arguments += ["-mon", "chardev=monitor,mode=control", "-serial", "chardev:console"]
    arguments += ["-device", "virtio-serial-pci"]
    agents = [(agent_socket_name(number), port_name(number)) for number in range(AGENT_PORTS)]
    for socket, port in (*agents, ("qga", _QGA_PORT_NAME)):
        if socket in spec.sockets:
            arguments += ["-device", f"virtserialport,chardev={socket},name={port}"]
    return arguments


def share_arguments(share: Share, server: int | None) -> list[str]:
    """A shared directory; *server* is the socket of its virtiofs server."""
    if share.by_virtiofs:
        return [
            *("-chardev", f"socket,id={share.tag},fd={server}"),
            *("-device", f"vhost-user-fs-pci,chardev={share.tag},tag={share.tag}"),
        ]
    # Files that the guest makes belong to the user who runs QEMU, whatever user made them.
    more = ",readonly=on" if share.read_only else ""
    return [
        *("-fsdev", f"local,id={share.tag},path={escaped(share.path)},security_model=none{more}"),
        *("-device", f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}"),
    ]
