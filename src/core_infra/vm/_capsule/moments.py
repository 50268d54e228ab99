"""The machines of a test as they stood before its last commands: forks that stand still."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError
from core_infra.vm._launcher import clusters_of
from core_infra.vm._machine import record_of
from core_infra.vm._machine_state import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._guest.timeline import Step
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine
    from core_infra.vm._saved_cluster import SavedCluster


class Moment(NamedTuple):
    """The moment before a command.

    Attributes:
        machine: the machine that the command was for.
        step: the command.
        members: the machines that were saved: that one, and those that it shared networks with.
        saved: the same, in this order; None if they could not be saved.
        why_not: the reason for that.
    """

    machine: Machine
    step: Step
    members: Sequence[Machine] = ()
    saved: SavedCluster | None = None
    why_not: str = ""

    def close(self) -> None:
        """End the forks."""
        if self.saved is not None:
            for one in self.saved.machines:
                one.source.close()


class Moments:
    """The moments before the last commands of a test.

    Args:
        most: how many are kept.
        launcher: returns what runs the machines.
    """

    def __init__(self, most: int, launcher: Callable[[], Launcher]) -> None:
        self._most = most
        self._launcher = launcher
        self._lock = threading.Lock()
        self._kept: deque[Moment] = deque()
        self._watched: list[Machine] = []
        self._number = 0

    def watch(self, machine: Machine) -> None:
        """From now on, keep the moments before the commands of a machine."""
        if self._most:
            self._watched.append(machine)
            record_of(machine).timeline.before_command = lambda step: self._keep(machine, step)

    def kept(self) -> list[Moment]:
        """Those that were kept, oldest first."""
        return list(self._kept)

    def clear(self) -> None:
        """End all forks; another test begins."""
        with self._lock:
            while self._kept:
                self._kept.pop().close()
            self._watched = [one for one in self._watched if one.status is not Status.STOPPED]
            self._number = 0

    def _keep(self, machine: Machine, step: Step) -> None:
        with self._lock:  # commands of several threads wait for each other
            self._number += 1
            step.number = self._number
            while len(self._kept) >= self._most:
                self._kept.popleft().close()
            self._kept.append(self._moment(machine, step))

    def _moment(self, machine: Machine, step: Step) -> Moment:
        running = [one for one in self._watched if one.status is Status.RUNNING]
        clusters = clusters_of(self._launcher())
        try:
            for members in clusters.connected(running):
                if machine in members:
                    return Moment(machine, step, members, clusters.capture(members))
        except CoreInfraError as error:
            return Moment(machine, step, why_not=f"it could not be saved: {error}")
        return Moment(machine, step, why_not=f"it did not run: {machine.status.value}")
