"""The port to a hypervisor for machines that outlive their starter, with disks and shared folders.

Those of :mod:`~core_infra.vm._hypervisors.disposable` are for clones: they have neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Disk
    from core_infra.vm._images.image import Image

CONSOLE_LOG = "console.log"
"""The console's log, in a machine's directory."""

PID_FILE = "hypervisor.pid"
"""Has the hypervisor's process id while it runs; it removes the file when it ends in order."""


def agent_line(number: int) -> str:
    """The name of a line to the agent, of which there are several."""
    return f"agent{number or ''}"


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
        image: the kernel that it boots; None boots a disk.
        disks: its disks, the first one first.
        shares: directories that it can mount.
        isolated: it reaches neither this host nor any other.
        lines: listening UNIX sockets that the hypervisor inherits, by the name of what is at their
            other end: ``monitor``, ``console``, ``agent``, ``agent1``,
            …, ``qga``.
        servers: sockets that the hypervisor inherits, connected with who serves a share by
            virtiofs, by the share's tag.
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
    lines: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[str, int] = field(default_factory=dict)
    mac: str = "52:54:00:12:34:56"
    cpu: str | None = None


class HostedHypervisor(Protocol):
    """A program that runs machines.

    Attributes:
        name: what it is asked for by.
        has_monitor: it is told what to do over the line ``monitor``, by QEMU's protocol: it waits
            there for ``cont`` before the guest starts, and forwards ports.
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
