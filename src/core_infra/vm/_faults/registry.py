"""The faults of one machine that are active."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._unpatched import time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._vmm_process import VmmProcess


_REMEMBERED = 50


class Effect(Protocol):
    """What a fault does to a machine.

    Attributes:
        survives: it is there again after the machine has been without power.
    """

    survives: bool

    def begin(self, process: VmmProcess) -> None:
        """Do it, to a machine that runs; again after each boot, and after each revert."""

    def end(self, process: VmmProcess) -> None:
        """Undo it."""


class MachineFault:
    """A fault of a machine, from its start until :meth:`heal`, or the end of its ``with`` block.

    Attributes:
        description: what it does, for reports.
        began: when, on ``time.monotonic``.
    """

    def __init__(self, description: str, effect: Effect, faults: MachineFaults) -> None:
        self.description = description
        self.effect = effect
        self.began = time.monotonic()
        self._faults = faults

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self._faults.has(self)

    def heal(self) -> None:
        """End it; a second call does nothing."""
        self._faults.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()

    def __repr__(self) -> str:
        return f"<MachineFault {self.description}>"


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

    def active(self, kind: type[Effect]) -> list[Effect]:
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
            self._active.append(fault)
            try:
                effect.begin(process)
            except BaseException:
                self._active.remove(fault)
                raise
            self.history.append(fault)
        return fault

    def end(self, fault: MachineFault) -> None:
        """End a fault, if it is active."""
        with self._lock:
            if fault not in self._active:
                return
            self._active.remove(fault)
            if self._machine.runs:
                fault.effect.end(self._machine.process)

    def end_all(self, kind: type[Effect]) -> None:
        """End all faults of one kind."""
        for fault in list(self._active):
            if isinstance(fault.effect, kind):
                self.end(fault)

    def power_lost(self) -> None:
        """The machine is off: what does not survive that has ended."""
        with self._lock:
            self._active = [fault for fault in self._active if fault.effect.survives]

    def has(self, fault: MachineFault) -> bool:
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
