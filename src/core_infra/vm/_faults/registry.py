"""The faults of one machine that are active."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from core_infra.vm._fault import Fault
from core_infra.vm._machine_state import MachineStateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._vmm_process import VmmProcess


_REMEMBERED = 50
_E = TypeVar("_E")


class Effect(Protocol):
    """What a fault does to a machine.

    Attributes:
        survives: it is there again after the machine has been without power.
        needs_guest: the guest must answer for it, so it cannot start or end while it is paused.
        stops: the guest stands still.
    """

    survives: bool
    needs_guest: bool
    stops: bool

    def begin(self, process: VmmProcess) -> None:
        """Do it, to a machine that runs; again after each boot, and after each revert."""

    def end(self, process: VmmProcess) -> None:
        """Undo it."""


class Combined(ABC):
    """An effect of which several add up: the machine is set to what all active ones make together.

    Args:
        faults: all faults of the machine.
    """

    survives = True
    needs_guest = False
    stops = False

    def __init__(self, faults: MachineFaults) -> None:
        self._faults = faults

    @abstractmethod
    def apply(self, process: VmmProcess, active: Sequence[Self]) -> None:
        """Set the machine to these effects; none of them: to what it is without."""

    def begin(self, process: VmmProcess) -> None:
        """With this one."""
        self.apply(process, self._faults.active(type(self)))

    def end(self, process: VmmProcess) -> None:
        """Without it."""
        self.begin(process)


class MachineFault(Fault):
    """A fault of a machine, from its start until :meth:`heal`, or the end of its ``with`` block."""

    def __init__(self, description: str, effect: Effect, faults: MachineFaults) -> None:
        super().__init__(description, faults)
        self.effect = effect


class RunningMachine(Protocol):
    """The machine that has the faults."""

    @property
    def process(self) -> VmmProcess:
        """The process that runs it; MachineStateError unless it runs."""
        ...

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        ...


class MachineFaults:
    """The faults of one machine.

    Args:
        machine: has the faults.

    Attributes:
        history: the last ones, newest last.
    """

    def __init__(self, machine: RunningMachine) -> None:
        self._machine = machine
        self.history: deque[MachineFault] = deque(maxlen=_REMEMBERED)
        self._active: list[MachineFault] = []
        self._lock = threading.RLock()

    @property
    def process(self) -> VmmProcess:
        """The process of the machine; MachineStateError unless it runs."""
        return self._machine.process

    def descriptions(self) -> list[str]:
        """What is active, oldest first."""
        return [fault.description for fault in self._active]

    def require_awake(self, what: str) -> None:
        """Raise MachineStateError if the machine is paused by a fault, and its guest must answer.

        Args:
            what: what cannot be done then.
        """
        if any(fault.effect.stops for fault in self._active):
            raise MachineStateError(
                what,
                why="its guest must answer, and it is paused",
                todo="resume() it first.",
                needed="running",
                found="paused",
            )

    def active(self, kind: type[_E]) -> list[_E]:
        """The effects of one kind that are active, oldest first."""
        return [fault.effect for fault in self._active if isinstance(fault.effect, kind)]

    def begin(self, description: str, effect: Effect) -> MachineFault:
        """Start a fault; it is at work when this returns.

        Raises:
            MachineStateError: the machine does not run.
        """
        process = self._machine.process
        fault = MachineFault(description, effect, self)
        with self._lock:
            if effect.needs_guest:
                self.require_awake(f"cannot harm machine {process.spec.name}: {description}")
            self._active.append(fault)
            try:
                effect.begin(process)
            except BaseException:
                self._active.remove(fault)
                raise
            self.history.append(fault)
        return fault

    def end(self, fault: Fault) -> None:
        """End a fault, if it is active.

        Raises:
            MachineStateError: the guest must answer for that, and it is paused; the fault stays.
        """
        with self._lock:
            for active in self._active:
                if active is fault:
                    if active.effect.needs_guest and self._machine.runs:
                        self.require_awake(f"cannot end a fault: {fault.description}")
                    self._active.remove(active)
                    active.finish()
                    if self._machine.runs:
                        active.effect.end(self._machine.process)
                    return

    def end_all(self, kind: type[Effect]) -> None:
        """End all faults of one kind."""
        for fault in list(self._active):
            if isinstance(fault.effect, kind):
                self.end(fault)

    def power_lost(self) -> None:
        """The machine is off: what does not survive that has ended."""
        with self._lock:
            for fault in self._active:
                if not fault.effect.survives:
                    fault.finish()
            self._active = [fault for fault in self._active if fault.effect.survives]

    def has(self, fault: Fault) -> bool:
        """Whether a fault is active."""
        return fault in self._active

    def saved(self) -> list[MachineFault]:
        """What is active now that a snapshot is made, for :meth:`begin_again`."""
        return list(self._active)

    def begin_again(self, process: VmmProcess, saved: Sequence[MachineFault] = ()) -> None:
        """The machine has booted, or is another process: what is active is done to it, too.

        Args:
            process: the process.
            saved: what was active when its snapshot was made, and what it therefore has.
        """
        with self._lock:
            for fault in saved:
                if fault not in self._active:
                    fault.effect.end(process)
            for fault in self._active:
                fault.effect.begin(process)
