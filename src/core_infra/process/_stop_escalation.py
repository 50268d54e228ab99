"""How a program is stopped: its process group gets a signal, then its whole tree is killed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import signal
from core_infra.process._errors import KILL_TIMEOUT
from core_infra.process._status import ENDED, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.supervisor import Deferred
    from core_infra.process._execution import Execution
    from core_infra.process._options import RunOptions
    from core_infra.process._reaper.protocol import End


class Stoppable(Protocol):
    """What an escalation needs of the lifecycle whose program it stops.

    Attributes:
        options: the program.
        status: its state.
        last_signal: the last signal that it was sent.
        deferred: jobs of its loop.
    """

    options: RunOptions
    status: Status
    last_signal: int
    deferred: Deferred

    def conclude(self, run: Execution, end: End) -> None:
        """Process the end of the program."""

    def report_unkillable(self, run: Execution) -> None:
        """Report that the program was killed and has not ended."""


class StopEscalation:
    """The progress of stopping one program; all happens on the thread of its loop.

    The lifecycle is an argument of each call: a reference would be a cycle, which would keep
    descriptors open until it is collected.

    Attributes:
        started: the program is to end.
    """

    def __init__(self) -> None:
        self.started = False
        self._grace = math.inf
        self._grace_over: Latch | None = None  # set once the group is killed, or gone

    def start(self, grace: float) -> None:
        """Limit the time to end to *grace* seconds; :meth:`terminate` follows once it runs."""
        self.started = True
        self._grace = min(self._grace, grace)

    def terminate(self, life: Stoppable, run: Execution, grace: float | None = None) -> None:
        """Send the stop signal to its group; kill the whole tree once the time is over.

        The group has this time also if the program itself has ended, as a shell ends before the
        programs that it has started.

        Args:
            life: the lifecycle.
            run: the program.
            grace: seconds; None: those of :meth:`start`.
        """
        grace = self._grace if grace is None else grace
        if grace <= 0:
            self.kill(life, run)
            return
        number = life.options.stop_signal
        if run.end is None:
            life.last_signal = number
            run.signal(number, process_group=True)
            # A stopped process (SIGTTIN) receives it only when it continues.
            run.signal(signal.SIGCONT, process_group=True)
        else:
            run.process_group().signal(number)
            run.process_group().signal(signal.SIGCONT)
            if life.status in ENDED and not run.process_group().watch(lambda: self.kill(life, run)):
                self.kill(life, run)
                return
        if self._grace_over is None or self._grace_over.is_set():
            self._grace_over = Latch()
        life.deferred.later(grace, lambda: self.kill(life, run))

    def kill(self, life: Stoppable, run: Execution) -> None:
        """Kill the whole tree now."""
        life.deferred.cancel()
        self._grace = 0
        run.kill()
        self.finish()
        if life.status is not Status.RUNNING:
            run.forget_process_group()
        elif run.end is not None:
            life.conclude(run, run.end)
        else:
            life.last_signal = signal.SIGKILL
            life.deferred.later(KILL_TIMEOUT, lambda: life.report_unkillable(run))

    def waits_for_process_group(self, run: Execution, then: Callable[[], None]) -> bool:
        """Whether other members of its group still have time; if so, call *then* at their end."""
        return self._grace > 0 and run.process_group().watch(then)

    def finish(self) -> None:
        """End the time of the group."""
        if self._grace_over is not None:
            self._grace_over.set()

    def grace_over(self) -> Latch | None:
        """Set by :meth:`finish`; None if no signal was sent."""
        return self._grace_over
