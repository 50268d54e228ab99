"""The port to a hypervisor: what a program that runs machines must be able to tell and do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.vm._images.image import Bootable


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How the guest's instructions run.

    Attributes:
        name: "kvm", "hvf" or "tcg" (plain emulation).
        reason: why it is this one, for people.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a machine.

    Attributes:
        path: its file.
        format: what the file is, by QEMU's name for it: qcow2, raw, iso, vmdk, ….
        read_only: the machine does not write to it.
        boot: the machine boots from it.
        disc: it is an optical disc.
        locked: nobody else may write the file meanwhile. Of a machine that is forked, it is not:
            each fork writes a copy.
        content: what its content is known by, of a file that core-infra has made; empty is that it
            is known by its files' times and sizes.
    """

    path: Path
    format: str
    read_only: bool = False
    boot: bool = False
    disc: bool = False
    locked: bool = True
    content: str = ""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is made of.

    Attributes:
        name: its name, unique within the run.
        image: what it boots.
        memory: MiB.
        cpus: virtual processors.
        disks: what its disks begin as, the first one first; never written to.
        cpu: the processor, as QEMU's ``-cpu`` takes it; None is one that suits the guest.
    """

    name: str
    image: Bootable
    memory: int
    cpus: int
    disks: tuple[Disk, ...] = ()
    cpu: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file that is the machine's memory.

    Attributes:
        path: the file.
        shared: what the machine writes goes to the file; else it stays the machine's own.
    """

    path: Path
    shared: bool


class Hypervisor(Protocol):
    """A program that runs machines."""

    name: str

    def available(self) -> bool:
        """Whether the program is installed."""

    def version(self) -> str:
        """Its version; UnavailableError when it is not installed."""

    def program(self, arch: str) -> Path:
        """The program for guests of *arch*; UnavailableError tells how to install it."""

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
    ) -> Sequence[str]:
        """The whole command that runs *spec*.

        Args:
            spec: what the machine is made of.
            accelerator: how its instructions run.
            monitor: the inherited descriptor of the hypervisor's own protocol.
            console: that of the serial line.
            agent: that of the guest agent's port.
            memory: the file that is its memory; None is memory of its own.
            incoming: do not boot, but wait for a saved state.
        """
