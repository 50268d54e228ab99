"""The stop ladder: a program's group is asked to end, then all that it ever started is killed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import signal
from core_infra.process._errors import KILL_TIMEOUT
from core_infra.process._status import ENDED, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.supervisor import Jobs
    from core_infra.process._execution import Execution
    from core_infra.process._options import RunOptions
    from core_infra.process._reaper.protocol import End


class Climber(Protocol):
    """Whose program is ended.

    Attributes:
        options: what it is run with.
        status: where in its life it is.
        signal: the last that it was sent.
        jobs: what is to be done for it later.
    """

    options: RunOptions
    status: Status
    signal: int
    jobs: Jobs

    def conclude(self, run: Execution, end: End) -> None:
        """The program has ended."""

    def despair(self, run: Execution) -> None:
        """The program was killed, and has not ended."""


class Ladder:
    """How far one program is on it; all happens on the thread of its loop.

    The climber is an argument each time: a reference to it would be a circle, and would keep its
    descriptors until that is collected.

    Attributes:
        begun: it is to end.
    """

    def __init__(self) -> None:
        self.begun = False
        self._grace = math.inf
        self._asked: Latch | None = None  # set once it is killed, or gone

    def begin(self, grace: float) -> None:
        """It has this time at most; :meth:`climb` asks it to end, once it runs."""
        self.begun = True
        self._grace = min(self._grace, grace)

    def climb(self, life: Climber, run: Execution, grace: float | None = None) -> None:
        """Ask its group to end; once its time is over, kill the whole tree.

        The group has its time also if the program itself has ended, as a shell ends before what it
        has started.

        Args:
            life: whose program it is.
            run: the program.
            grace: seconds that it has; None: what it was given by :meth:`begin`.
        """
        grace = self._grace if grace is None else grace
        if grace <= 0:
            self.force(life, run)
            return
        number = life.options.stop_signal
        if run.end is None:
            life.signal = number
            run.signal(number, group=True)
            run.signal(signal.SIGCONT, group=True)  # who is stopped, as by SIGTTIN, hears of it
        else:
            run.companions().signal(number)
            run.companions().signal(signal.SIGCONT)
            if life.status in ENDED and not run.companions().watch(lambda: self.force(life, run)):
                self.force(life, run)
                return
        if self._asked is None or self._asked.is_set():
            self._asked = Latch()
        life.jobs.later(grace, lambda: self.force(life, run))

    def force(self, life: Climber, run: Execution) -> None:
        """Kill the whole tree now."""
        life.jobs.cancel()
        self._grace = 0
        run.kill()
        self.end()
        if life.status is not Status.RUNNING:
            run.forget_companions()
        elif run.end is not None:
            life.conclude(run, run.end)
        else:
            life.signal = signal.SIGKILL
            life.jobs.later(KILL_TIMEOUT, lambda: life.despair(run))

    def waits(self, run: Execution, then: Callable[[], None]) -> bool:
        """Whether others of its group still have time; then *then* is called at their end."""
        return self._grace > 0 and run.companions().watch(then)

    def end(self) -> None:
        """Nobody has time any more."""
        if self._asked is not None:
            self._asked.set()

    def asked(self) -> Latch | None:
        """What is set by :meth:`end`; None if nobody was asked."""
        return self._asked
