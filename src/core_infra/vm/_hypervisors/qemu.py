"""QEMU: where it is, and the command line that boots a machine fast, with or without KVM."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, shutil, subprocess
from core_infra.errors import UnavailableError
from core_infra.vm._guest.protocol import PORT_NAME
from core_infra.vm._hypervisors.processor import kernel_arguments, processor
from core_infra.vm._hypervisors.qemu_arguments import drives
from core_infra.vm._images.image import Image

if TYPE_CHECKING:
    from core_infra.vm._hypervisors.disposable import MachineSpec, MemoryFile

MEMORY = "ram"
"""QEMU's name of the machine's memory."""

_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_UEFI = ("edk2-aarch64-code.fd", "../qemu-efi-aarch64/QEMU_EFI.fd", "../AAVMF/AAVMF_CODE.fd")
_FIRMWARE_DIRS = ("/usr/share/qemu", "/usr/local/share/qemu", "/opt/homebrew/share/qemu")

# Hermetic: restrict=on answers the guest's ARP and DHCP but lets nothing in or out but what is
# forwarded explicitly. No option ROM: nothing boots from the network. A clone announces itself to
# nobody: that would be the first thing that its kernel does, and there is nobody else.
_NETWORK = (
    *("-netdev", "user,id=net0,restrict=on"),
    *("-device", "virtio-net-pci,id=nic0,netdev=net0,romfile=,guest_announce=off"),
)


class QemuHypervisor:
    """QEMU's system emulators."""

    name = "qemu"

    def available(self) -> bool:
        """Whether a system emulator is on PATH."""
        return any(shutil.which(f"qemu-system-{arch}") for arch in _PACKAGES)

    def program(self, arch: str) -> Path:
        """The emulator for guests of *arch*.

        Raises:
            UnavailableError: it is not on PATH; tells the package that has it.
        """
        found = shutil.which(f"qemu-system-{arch}")
        if found is None:
            raise UnavailableError(
                f"cannot run a machine: qemu-system-{arch} is not on PATH",
                why="QEMU is not installed",
                todo=f"Install it: apt-get install {_PACKAGES.get(arch, 'qemu-system')}",
            )
        return Path(found)

    def version(self) -> str:
        """QEMU's version, such as "7.2.22"."""
        arch = next((a for a in _PACKAGES if shutil.which(f"qemu-system-{a}")), "x86_64")
        program = self.program(arch)
        return _version(program, program.stat().st_mtime_ns)

    def command_line(
        self,
        spec: MachineSpec,
        accelerator: str,
        *,
        monitor: int,
        console: int,
        agent: int,
        memory: MemoryFile | None = None,
        incoming: bool = False,
    ) -> list[str]:
        """The command that runs *spec*; the port tells the arguments."""
        image = spec.image
        cpu = processor(image.arch, accelerator, spec.cpu)
        command = [
            str(self.program(image.arch)),
            *("-name", escaped(spec.name)),
            *_memory(spec.memory, memory),
            *board(image.arch, accelerator, cpu, boots_kernel=isinstance(image, Image)),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            # No default devices, no user configuration.
            *("-nodefaults", "-no-user-config", "-display", "none"),
            # A guest that restarts while it boots (which is what a panic does, by panic=-1) ends
            # QEMU, so a broken boot is noticed at once. One that is up may reboot.
            *(["-incoming", "defer"] if incoming else ["-no-reboot"]),
        ]
        if isinstance(image, Image):  # a saved state has it in its memory; a reboot needs it anew
            command += kernel(image, cpu, accelerator, self.version())
        return [
            *command,
            *_chardev("monitor", monitor),
            *("-mon", "chardev=monitor,mode=control"),
            *_chardev("console", console),
            *("-serial", "chardev:console"),
            *_chardev("agent", agent),
            *("-device", "virtio-serial-pci"),
            # With an id, QEMU tells by an event when the guest opens or closes it.
            *("-device", f"virtserialport,id=agent-port,chardev=agent,name={PORT_NAME}"),
            # Not QEMU's built-in generator: its state would be the same in all forked clones.
            *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=entropy"),
            *_NETWORK,
            *drives(spec.disks, image.arch),
        ]


def escaped(text: str | Path) -> str:
    """A part of an argument, with its commas quoted as QEMU wants it."""
    return str(text).replace(",", ",,")


def _chardev(name: str, fd: int) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={fd}"]


def _memory(size: int, file: MemoryFile | None) -> list[str]:
    # Always by the same id: it is the memory's name in a saved state.
    kind = "memory-backend-ram"
    if file is not None:
        path = escaped(file.path)
        share = "on" if file.shared else "off"
        kind = f"memory-backend-file,mem-path={path},share={share}"
    return ["-object", f"{kind},id={MEMORY},size={size}M"]


def board(arch: str, accelerator: str, cpu: str, *, boots_kernel: bool = True) -> list[str]:
    """The machine, its processor and its firmware.

    Args:
        arch: the guest's architecture.
        accelerator: how its instructions run.
        cpu: the processor, as :func:`~.processor.processor` gives it.
        boots_kernel: it boots a kernel; else a disk.

    Raises:
        UnavailableError: it is to boot a disk, and there is no firmware for that.
    """
    if arch == "aarch64":
        board = f"virt,gic-version=max,memory-backend={MEMORY}"
        bios = [] if boots_kernel else ["-bios", str(_uefi())]
    else:
        board = f"q35,memory-backend={MEMORY}"
        qboot = firmware("qboot.rom", arch)  # a BIOS that does nothing but start the kernel
        bios = ["-bios", str(qboot)] if qboot and boots_kernel else []
    return ["-M", board, "-accel", accelerator, "-cpu", cpu, *bios]


def _uefi() -> Path:
    found = next((path for name in _UEFI if (path := firmware(name, "aarch64"))), None)
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
        restarts: QEMU lets the guest restart, and does not end by that.
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
    # An emulated guest that calibrates its timers against a busy host measures nonsense, or hangs.
    # So it is told: under TCG on x86 the guest's time stamp counter is the host's.
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


@functools.cache
def _version(program: Path, _modified: int) -> str:
    text = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    match = re.search(r"version (\S+)", text)
    if match is None:
        raise UnavailableError(
            f"cannot tell the version of {program}",
            why=f"it printed {text[:200]!r}",
            todo="Is it really QEMU?",
        )
    return match[1]
