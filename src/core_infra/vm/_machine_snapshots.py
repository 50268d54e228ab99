"""The snapshots of one machine: what it can return to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._faults.registry import MachineFault, MachineFaults
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._network.membership import Memberships
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._vmm_process import VmmProcess


class Snapshotter(Protocol):
    """Captures machines, and clones machines from what was captured."""

    def capture(self, process: VmmProcess) -> CloneSource:
        """The source for clones of a running machine as it is now; the machine continues."""

    def clone(
        self, source: CloneSource, directory: Path, name: str, past: bytes, cards: bytes = b""
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone, running and verified, and what its agent reports of the guest."""

    def scratch(
        self, source: CloneSource
    ) -> AbstractContextManager[tuple[AgentClient, Mapping[str, str]]]:
        """Within the block, the agent of a clone of our own, and what it reports of the guest."""

    def launch_again(self, former: VmmProcess, past: bytes) -> VmmProcess:
        """A process that boots from the disks of one that has ended."""

    def boot_again(
        self, former: VmmProcess, past: bytes, limit: float
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A process that has booted from the disks of one that has ended; and the same."""


class RevertibleMachine(Protocol):
    """The machine that has the snapshots."""

    spec: MachineSpec
    directory: Path
    networks: Memberships
    faults: MachineFaults

    @property
    def process(self) -> VmmProcess:
        """The process that runs it; MachineStateError unless it runs."""
        ...

    def without_ports(self) -> AbstractContextManager[None]:
        """Within the block, it has no forwarded ports."""

    def replacing(self) -> AbstractContextManager[None]:
        """End the process; the block must :meth:`replace` it."""

    def replace(
        self, process: VmmProcess, info: Mapping[str, str], saved: Sequence[MachineFault] = ()
    ) -> None:
        """Continue with another process, whose machine has the saved faults."""


def check_snapshot_name(name: object) -> None:
    """Raise InvalidError unless a snapshot can have this name."""
    if not isinstance(name, str) or not name:
        raise InvalidError(f"cannot name a snapshot {name!r}", todo="Give it a word.")


def reverted_to(name: str | None) -> bytes:
    """The line in the console's log of a machine that is reverted."""
    what = "its start" if name is None else f"the snapshot {name!r}"
    return f"\n[core-infra: reverted to {what}]\n".encode()


class MachineSnapshots:
    """The snapshots of one machine, by name, and its initial state.

    Args:
        machine: the machine.
        snapshotter: makes them, and clones from them.
        initial: what the machine was cloned from; None: it was booted.

    Attributes:
        initial: the same.
    """

    def __init__(
        self, machine: RevertibleMachine, snapshotter: Snapshotter, initial: CloneSource | None
    ) -> None:
        self._machine = machine
        self._snapshotter = snapshotter
        self.initial = initial
        self._sources: dict[str, CloneSource] = {}
        self._faults: dict[str, list[MachineFault]] = {}

    def take(self, name: str) -> None:
        """See :meth:`core_infra.vm.Machine.snapshot`."""
        check_snapshot_name(name)
        process = self.process_to_save()
        with self._machine.without_ports():
            source = self._snapshotter.capture(process)
        self.add(name, source)

    def process_to_save(self) -> VmmProcess:
        """The machine's process; MachineStateError if the machine cannot be saved now."""
        process = self._machine.process
        self._machine.faults.require_awake(f"cannot save machine {self._machine.spec.name}")
        return process

    def add(self, name: str, source: CloneSource) -> None:
        """Keep a snapshot, which the machine owns from now on, in place of one of that name."""
        former = self._sources.pop(name, None)
        self._sources[name] = source
        self._faults[name] = self._machine.faults.saved()
        if former is not None:
            former.close()

    def source_of(self, name: str | None) -> CloneSource:
        """What the machine is reverted to; None is its initial state.

        Raises:
            NotFoundError: there is no such snapshot, or no initial state.
        """
        if name is None:
            return self._initial()
        check_snapshot_name(name)
        if name not in self._sources:
            known = ", ".join(map(repr, self._sources)) or "none"
            raise NotFoundError(
                f"machine {self._machine.spec.name} has no snapshot {name!r}",
                why=f"there is {known}",
            )
        return self._sources[name]

    def faults_of(self, name: str | None) -> Sequence[MachineFault]:
        """The faults that were active when a snapshot was made."""
        return [] if name is None else self._faults[name]

    def revert(self, name: str | None) -> None:
        """See :meth:`core_infra.vm.Machine.revert`."""
        source, machine = self.source_of(name), self._machine
        with machine.replacing():
            process, info = self._snapshotter.clone(
                source,
                machine.directory,
                machine.spec.name,
                reverted_to(name),
                machine.networks.payload(),
            )
            machine.networks.connect(process)
            machine.replace(process, info, self.faults_of(name))

    def original(self) -> AbstractContextManager[tuple[AgentClient, Mapping[str, str]]]:
        """Within the block, the agent of another clone of what this machine was cloned from."""
        return self._snapshotter.scratch(self._initial())

    def close(self) -> None:
        """Remove them."""
        while self._sources:
            self._sources.popitem()[1].close()

    def _initial(self) -> CloneSource:
        if self.initial is None:
            raise NotFoundError(
                f"machine {self._machine.spec.name} has no initial state to return to",
                why="it was booted cold",
                todo="Take a snapshot(name) when it is as you want it, and revert(name).",
            )
        if not self.initial.is_whole():
            raise NotFoundError(
                f"machine {self._machine.spec.name} has no initial state to return to",
                why="what it was cloned from was closed, or its files were removed",
            )
        return self.initial
