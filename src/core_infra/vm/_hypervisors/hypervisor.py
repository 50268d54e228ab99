"""What a hypervisor must be able to do, and the types that it gets.

A :class:`Hypervisor` runs machines that persist: their process lives on when the starter ends. Only
a :class:`DisposableHypervisor` runs machines of tests as well, which are cloned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core_infra.vm._hardware import Disk
    from core_infra.vm._images.image import Image
    from core_infra.vm._machine_spec import MachineSpec

CONSOLE_LOG = "console.log"
"""The console's log, in a machine's directory."""

PID_FILE = "hypervisor.pid"
"""Has the hypervisor's process id while it runs; it removes the file when it ends in order."""


def agent_socket_name(number: int) -> str:
    """The name of the socket of one of the agent's ports."""
    return f"agent{number or ''}"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How the guest's instructions run.

    Attributes:
        name: "kvm", "hvf" or "tcg" (plain emulation).
        reason: why it is this one, for users.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file that is the machine's memory.

    Attributes:
        path: the file.
        shared: what the machine writes goes to the file; else it stays the machine's own.
    """

    path: Path
    shared: bool


@dataclass(frozen=True, slots=True)
class Share:
    """A directory of this host that a machine can mount.

    Attributes:
        tag: what the guest mounts it by.
        path: the directory.
        by_virtiofs: a program of its own serves it, and not the hypervisor.
        read_only: the guest cannot write to it.
        file: the one file of it that is meant; empty for the directory itself.
    """

    tag: str
    path: Path
    by_virtiofs: bool = False
    read_only: bool = False
    file: str = ""

    @property
    def type(self) -> str:
        """The guest's type of file system."""
        return "virtiofs" if self.by_virtiofs else "9p"


@dataclass(frozen=True, slots=True)
class PersistentSpec:
    """What a machine is made of.

    Attributes:
        name: its name.
        directory: its files on this host: the console's log, the process id.
        arch: its architecture, as ``uname -m`` says it.
        memory: MiB.
        cpus: virtual processors.
        image: the kernel that it boots; None: it boots a disk.
        disks: its disks, the first one first.
        shares: directories that it can mount.
        isolated: it cannot reach this host or any other.
        sockets: listening UNIX sockets that the hypervisor inherits, by what they are for:
            ``monitor``, ``console``, ``agent``, ``agent1``, …, ``qga``.
        virtiofs: sockets that the hypervisor inherits, connected with the virtiofs servers, by
            the share's tag.
        mac: the network card's address.
        cpu: the processor, as QEMU's ``-cpu`` takes it; None is one that suits the guest.
    """

    name: str
    directory: Path
    arch: str
    memory: int
    cpus: int
    image: Image | None = None
    disks: Sequence[Disk] = ()
    shares: Sequence[Share] = ()
    isolated: bool = False
    sockets: Mapping[str, int] = field(default_factory=dict)
    virtiofs: Mapping[str, int] = field(default_factory=dict)
    mac: str = "52:54:00:12:34:56"
    cpu: str | None = None


class Hypervisor(Protocol):
    """A program that runs machines.

    Attributes:
        name: the name to select it by.
        has_monitor: it is controlled over the socket ``monitor`` by QEMU's protocol: it waits for
            ``cont`` before the guest starts, and forwards ports.
    """

    name: str
    has_monitor: bool

    def available(self) -> bool:
        """Whether the program is installed, and is for this system."""

    def version(self) -> str:
        """Its version; UnavailableError when it is not installed."""

    def build(self, spec: PersistentSpec, accelerator: str) -> list[str]:
        """The whole command that runs *spec*.

        Raises:
            UnavailableError: it is not installed.
            InvalidError: it cannot run such a machine.
        """


class DisposableHypervisor(Hypervisor, Protocol):
    """A hypervisor whose machines can be saved and cloned."""

    def program(self, arch: str) -> Path:
        """The program for guests of *arch*; UnavailableError says how to install it."""

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
    ) -> Sequence[str]:
        """The whole command that runs *spec*.

        Args:
            spec: its specification.
            accelerator: how its instructions run.
            monitor: the inherited descriptor of the hypervisor's own protocol.
            console: that of the serial line.
            agent: that of the guest agent's port.
            cards: those of its cards on networks of the run: packet sockets, a frame per message.
            memory: the file that is its memory; None is memory of its own.
            incoming: do not boot, but wait for a saved state.
        """
