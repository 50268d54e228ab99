"""QEMU: where it is, and the command lines of machines, with or without KVM."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, shutil, subprocess
from core_infra.errors import UnavailableError
from core_infra.vm._guest.protocol import PORT_NAME
from core_infra.vm._hardware import HERMETIC, VIRTUAL
from core_infra.vm._hypervisors.hypervisor import PID_FILE
from core_infra.vm._hypervisors.processor import processor
from core_infra.vm._hypervisors.qemu_arguments import (
    board,
    chardev,
    drives,
    escaped,
    kernel,
    memory_arguments,
    network_card,
    queues,
    share_arguments,
    shared_memory,
    socket_arguments,
)
from core_infra.vm._images.image import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._hypervisors.hypervisor import MemoryFile, PersistentSpec
    from core_infra.vm._machine_spec import MachineSpec

PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}

# No option ROM: nothing boots from the network. No announcement: it would be the first thing that a
# clone's kernel does, and no other machine would receive it.
_CARD = ("-device", "virtio-net-pci,id=nic0,netdev=net0,romfile=,guest_announce=off")

# An instruction is 8 ns of the guest's time. While it is idle, its clocks go on to its next timer.
_VIRTUAL_TIME = ("-icount", "shift=3,sleep=off")


class QemuHypervisor:
    """QEMU's system emulators."""

    name = "qemu"
    has_monitor = True

    def available(self) -> bool:
        """Whether a system emulator is on PATH."""
        return any(shutil.which(f"qemu-system-{arch}") for arch in PACKAGES)

    def program(self, arch: str) -> Path:
        """The emulator for guests of *arch*.

        Raises:
            UnavailableError: it is not on PATH; names the package that has it.
        """
        found = shutil.which(f"qemu-system-{arch}")
        if found is None:
            raise UnavailableError(
                f"cannot run a machine: qemu-system-{arch} is not on PATH",
                why="QEMU is not installed",
                todo=f"Install it: apt-get install {PACKAGES.get(arch, 'qemu-system')}",
            )
        return Path(found)

    def version(self) -> str:
        """QEMU's version, such as "7.2.22"."""
        arch = next((a for a in PACKAGES if shutil.which(f"qemu-system-{a}")), "x86_64")
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
        cards: Sequence[int] = (),
        memory: MemoryFile | None = None,
        incoming: bool = False,
    ) -> list[str]:
        """The command that runs *spec*; see the protocol for the arguments."""
        image = spec.image
        cpu = processor(image.arch, accelerator, spec.cpu)
        command = [
            str(self.program(image.arch)),
            *("-name", escaped(spec.name)),
            *memory_arguments(spec.memory, memory),
            *board(image.arch, accelerator, cpu, boots_kernel=isinstance(image, Image)),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            *(_VIRTUAL_TIME if spec.time == VIRTUAL else ()),
            # No default devices, no user configuration.
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *queues(accelerator),
            # A guest that restarts while it boots (which is what a panic does, by panic=-1) ends
            # QEMU, so a broken boot is noticed at once. One that is up may reboot.
            *(["-incoming", "defer"] if incoming else ["-no-reboot"]),
        ]
        # A saved state has it in its memory; a reboot needs it again, if it still exists.
        if isinstance(image, Image) and not (incoming and not image.kernel.exists()):
            command += kernel(image, cpu, accelerator, self.version())
        return [
            *command,
            *chardev("monitor", monitor),
            *("-mon", "chardev=monitor,mode=control"),
            *chardev("console", console),
            *("-serial", "chardev:console"),
            *chardev("agent", agent),
            *("-device", "virtio-serial-pci"),
            # With an id, QEMU sends an event when the guest opens or closes it.
            *("-device", f"virtserialport,id=agent-port,chardev=agent,name={PORT_NAME}"),
            # Not QEMU's built-in generator: its state would be the same in all forked clones.
            *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=entropy"),
            *_user_network(restricted=spec.network == HERMETIC),
            *_CARD,
            *(part for number, fd in enumerate(cards) for part in network_card(number, fd)),
            *drives(spec.disks, image.arch),
        ]

    def build(self, spec: PersistentSpec, accelerator: str) -> list[str]:
        """The command that runs *spec*; see the protocol for the arguments."""
        return [
            str(self.program(spec.arch)),
            *("-name", escaped(spec.name)),
            *shared_memory(spec.memory, shared=any(share.by_virtiofs for share in spec.shares)),
            *_boot(spec, accelerator, self.version()),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *queues(accelerator),
            # The guest waits until its ports are forwarded and its record is written.
            *("-S", "-pidfile", str(spec.directory / PID_FILE)),
            *socket_arguments(spec),
            *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=entropy"),
            # Forwarded ports are added later, on the loopback address.
            *_user_network(restricted=spec.isolated),
            *("-device", f"virtio-net-pci,id=nic0,netdev=net0,romfile=,mac={spec.mac}"),
            *drives(spec.disks, spec.arch),
            *(
                part
                for share in spec.shares
                for part in share_arguments(share, spec.virtiofs.get(share.tag))
            ),
        ]


def _user_network(*, restricted: bool) -> list[str]:
    """QEMU's user network; restricted, it blocks all but ARP, DHCP and forwarded ports."""
    return ["-netdev", f"user,id=net0,restrict={'on' if restricted else 'off'}"]


def _boot(spec: PersistentSpec, accelerator: str, version: str) -> list[str]:
    cpu = processor(spec.arch, accelerator, spec.cpu)
    if spec.image is None:
        return board(spec.arch, accelerator, cpu, boots_kernel=False)
    has_disk = spec.image.disk is not None
    boots = [
        *board(spec.arch, accelerator, cpu),
        *kernel(spec.image, cpu, accelerator, version, restarts=has_disk),
    ]
    if has_disk:
        return boots
    # Files in memory are lost by a restart: so a restart ends the machine, as a panic does, which
    # restarts it.
    return [*boots, "-no-reboot"]


@functools.cache
def _version(program: Path, _modified: int) -> str:
    text = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    match = re.search(r"version (\S+)", text)
    if match is None:
        raise UnavailableError(
            f"cannot find the version of {program}",
            why=f"it printed {text[:200]!r}",
            todo="Is it really QEMU?",
        )
    return match[1]
