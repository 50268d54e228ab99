"""QEMU: where it is, and the command line that boots a machine fast, with or without KVM."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import UnavailableError
from core_infra.vm.guest.protocol import PORT_NAME

if TYPE_CHECKING:
    from core_infra.vm.hypervisors.hypervisor import MachineSpec, Wire
    from core_infra.vm.images.image import Image

_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_FIRMWARE_DIRS = ("/usr/share/qemu", "/usr/local/share/qemu", "/opt/homebrew/share/qemu")

# Hermetic: restrict=on answers the guest's ARP and DHCP but lets nothing in or out but what is
# forwarded explicitly. No option ROM: nothing boots from the network.
_NETWORK = (
    *("-netdev", "user,id=net0,restrict=on"),
    *("-device", "virtio-net-pci,netdev=net0,romfile="),
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
        monitor: Wire,
        console: Wire,
        agent: Wire,
    ) -> list[str]:
        """The command that boots *spec*, with its three connections on inherited descriptors."""
        image = spec.image
        command = [
            str(self.program(image.arch)),
            *("-name", spec.name),
            *_machine(image.arch, accelerator),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            # No default devices, no user configuration; a guest that restarts (which is what a
            # panic does, by panic=-1) ends QEMU, so a broken boot is noticed at once.
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(image.kernel)),
            *("-append", _kernel_arguments(image, accelerator)),
        ]
        if image.initrd is not None:
            command += ["-initrd", str(image.initrd)]
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
            *("-device", "virtio-rng-pci"),
            *_NETWORK,
        ]


def _chardev(name: str, wire: Wire) -> list[str]:
    # wait=on: our connection is in the socket's backlog already, so nothing waits, and not even
    # the first byte finds the line without a listener.
    server = ",server=on,wait=on" if wire.listening else ""
    return ["-chardev", f"socket,id={name},fd={wire.fd}{server}"]


def _machine(arch: str, accelerator: str) -> list[str]:
    cpu = "max" if accelerator == "tcg" else "host"
    if arch == "aarch64":
        return ["-M", "virt,gic-version=max", "-accel", accelerator, "-cpu", cpu]
    firmware = _firmware("qboot.rom")  # a BIOS that does nothing but start the kernel
    bios = ["-bios", str(firmware)] if firmware else []
    return ["-M", "q35", "-accel", accelerator, "-cpu", cpu, *bios]


def _kernel_arguments(image: Image, accelerator: str) -> str:
    # panic=-1: a kernel that panics restarts at once, which -no-reboot turns into QEMU's end.
    panic = [] if "panic=" in image.cmdline else ["panic=-1"]
    return " ".join([image.cmdline, *panic, *_timer_arguments(image.arch, accelerator)])


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


@functools.cache
def _firmware(name: str) -> Path | None:
    return next((path for d in _FIRMWARE_DIRS if (path := Path(d) / name).is_file()), None)


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
