"""A process from its start to its end: the state machine behind :class:`Process`."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.loop import READ
from core_infra._eventloop.supervisor import PASSING, Jobs, supervisor
from core_infra._unpatched import os
from core_infra.errors import CoreInfraError, UnavailableError, WrongStateError
from core_infra.process._errors import KILL_TIMEOUT, CannotKillError, start_error
from core_infra.process._execution import Execution
from core_infra.process._options import check_signal
from core_infra.process._reaper.client import StartRefusedError
from core_infra.process._status import ENDED, Status, move
from core_infra.process._stop_escalation import Ladder

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop
    from core_infra.process._events import Stream
    from core_infra.process._options import Input, RunOptions
    from core_infra.process._reaper.protocol import End
    from core_infra.process._status import Usage


class Watcher(Protocol):
    """Who is told how a life goes, on the loop's thread."""

    def on_start(self, pid: int) -> None:
        """It runs."""

    def on_output(self, stream: Stream, data: bytes) -> None:
        """It has written."""

    def on_end(self, error: Exception | None) -> None:
        """It is over; *error* says why it could not be started."""


class Life:
    """Starts a program, perhaps again and again, and ends it.

    All happens on the loop's thread, without a lock: a signal's handler that waits for us can have
    interrupted nobody who holds one.

    Args:
        options: what it is run with.
        stdin: what it reads; from :meth:`RunOptions.input`.
        group: the keeper's group that it belongs to.
        watcher: is told of everything.
        loop: attends to it.
        linger: seconds after its end that its output is waited for, as long as something that it
            left behind has its pipes.
    """

    def __init__(
        self,
        options: RunOptions,
        stdin: Input,
        group: int,
        watcher: Watcher,
        loop: Loop,
        *,
        linger: float = 0,
    ) -> None:
        self.options = options
        self.loop = loop
        self.status = Status.PENDING
        self.begun = Latch()
        self.over = Latch()
        self.run: Execution | None = None
        self.error: Exception | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.signal = 0
        self.timed_out = False
        self._stdin = stdin
        self._group = group
        self._watcher = watcher
        self._linger = linger
        self._lingers = False  # it has ended, and its output is waited for
        self._lingered = False
        self._ladder = Ladder()
        self._starting = False
        self._heard: Latch | None = None  # that of the last stop: set once it has begun
        self._told = False
        self._streak = 0  # restarts since it was last healthy
        self.jobs = Jobs(loop)
        self._pid = os.getpid()

    def begin(self, *, hurry: bool) -> None:
        """Have it started; what comes of that, is told.

        Args:
            hurry: we are told of its start at once; else, with its end if that is soon.
        """
        if self.loop.is_current():
            self._start(hurry=hurry)
        else:  # there, no signal can come in between
            self.loop.post(lambda: self._start_quietly(hurry=hurry))

    def give_up(self, error: BaseException) -> None:
        """Whoever began it was interrupted, wherever that was; nothing if all is told."""
        if self.loop.is_current():
            self._give_up(error)
        else:
            self.loop.post(lambda: self._give_up(error))

    def _give_up(self, error: BaseException) -> None:
        run = self.run
        if self._told:
            return
        if run is not None:  # it may have been started
            run.kill()
        if self.status is Status.PENDING:
            if run is not None:
                self.loop.post(run.close)
            self._finish(Status.FAILED, error if isinstance(error, Exception) else None)
        elif self.status in ENDED:
            self._finish(self.status, self.error)
        elif run is not None and run.channel >= 0:
            self.loop.watch(run.channel, READ, lambda _: self._hear(run))

    def _start_quietly(self, *, hurry: bool) -> None:
        with contextlib.suppress(Exception):  # it is told
            self._start(hurry=hurry)

    def _start(self, *, hurry: bool) -> None:
        if self._told:
            return  # it was given up before, or stopped
        self._starting = True
        try:
            try:
                run = self._ask(hurry=hurry)
            except UnavailableError:  # the keeper was killed before it heard of this
                run = self._ask(hurry=hurry)
            self.loop.watch(run.channel, READ, lambda _: self._hear(run))
        except OSError as cause:
            if cause.errno is None:  # a signal's handler raises it: the system says what it means
                self._give_up(cause)
                raise
            self._refuse(cause)
        except CoreInfraError as error:  # there is no keeper
            self._fail(error, passing=True)
        except BaseException as error:
            self._give_up(error)
            raise

    def _ask(self, *, hurry: bool) -> Execution:
        options = self.options
        is_captured = options.log is None and not options.detach
        wrote = self._watcher.on_output if is_captured else None
        self.run = run = Execution(options, self._stdin, self._group, self.loop, wrote)
        try:
            run.ask(hurry=hurry)
        except BaseException:
            run.close()
            raise
        return run

    def _refuse(self, cause: OSError) -> None:
        in_directory = isinstance(cause, StartRefusedError) and cause.in_directory
        error = start_error(self.options, cause, in_directory=in_directory)
        self._fail(error, passing=cause.errno in PASSING)

    def _fail(self, error: CoreInfraError, *, passing: bool) -> None:
        """It was not started; if that may pass, and it is one to be restarted, not yet."""
        if self.run is not None:
            self.run.close()
        if passing and self.restarts and not self._ladder.begun:
            policy = self.options.restart
            pause = policy.pause(1, self._streak) if policy is not None else None
            if pause is not None:
                self._streak += 1
                self._starting = False
                self.jobs.later(pause, self._again)
                return
        self._finish(Status.FAILED, error)

    def _hear(self, run: Execution) -> None:
        """There is news of a run: it was started, or has ended, or both."""
        run.hear()
        if self._told:  # whoever began it was interrupted, and it has been killed
            run.close()
            return
        attended = self.status is not Status.PENDING
        if not attended:
            try:
                pid = run.started()
            except OSError as cause:
                self._refuse(cause)
                return
            except CoreInfraError as error:  # the keeper was killed
                self._fail(error, passing=True)
                return
            if pid is None:
                return
            self._attend(run, pid)
        end = run.ended()
        if end is not None:
            run.end = end
            self.conclude(run, end)
        if not attended:
            run.stdio.begin()

    def _attend(self, run: Execution, pid: int) -> None:
        """It runs."""
        self.pid = pid
        self._lingered = False
        self.status = move(self.status, Status.RUNNING)  # before anybody hears of it
        self._starting = False
        self._watcher.on_start(pid)
        self.begun.set()
        if self.options.timeout is not None:
            self.jobs.later(self.options.timeout, self._expire)
        if self._ladder.begun:  # since before we knew that it runs
            self._ladder.climb(self, run)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program; raises as :meth:`Process.signal` does."""
        check_signal(number)
        run = self.require_running("signal")
        error = run.signal(number)
        if error == errno.EPERM:
            raise UnavailableError(
                f"cannot send {self.options.argv()[0]!r} the signal {number}",
                why="it runs as another user, as with sudo",
                errno=error,
            )
        self.signal = number

    def require_running(self, call: str) -> Execution:
        """Its run; WrongStateError if it does not run."""
        self.require_ours(call)
        if self.status is not Status.RUNNING or self.run is None:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why=f"it is {self.status}",
                needed=str(Status.RUNNING),
                found=str(self.status),
            )
        return self.run

    def require_ours(self, call: str) -> None:
        """Raise WrongStateError in a process that was forked from the one that began it."""
        if os.getpid() != self._pid:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why="this process was forked from the one that started it",
                todo="Let that one do it; a service of your own starts programs of your own.",
                needed=f"process {self._pid}",
                found=f"process {os.getpid()}",
            )

    def stop(self, grace: float) -> None:
        """Begin to end it and all that it started; does not wait."""
        self.require_ours("stop")
        if self.loop.is_current():
            self._stop(grace)
            return
        self._heard = heard = Latch()

        def stop() -> None:
            try:
                self._stop(grace)
            finally:
                heard.set()

        self.jobs.soon(stop)

    def _stop(self, grace: float) -> None:
        self._ladder.begin(grace)
        run = self.run
        if self.status is not Status.PENDING:
            if run is None:
                return  # it was given up before it was started
            self._ladder.climb(self, run, grace)
            if run.end is not None and not self._told:
                self.conclude(run, run.end)
        elif not self._starting:  # not yet, or it pauses between two runs
            self.jobs.cancel()
            self._finish(Status.KILLED)

    def await_gone(self) -> None:
        """Wait until nothing is left of it, once it was stopped.

        Raises:
            CannotKillError: something still runs.
        """
        if self._heard is not None:
            self.loop.wait(self._heard)
        self.loop.wait(self.over)
        if isinstance(self.error, CannotKillError):
            raise self.error
        if (asked := self._ladder.asked()) is not None:
            self.loop.wait(asked)
        if self.run is not None:
            self.run.await_gone()

    def clear(self, then: Callable[[CannotKillError | None], None]) -> None:
        """End what it has left behind, now that it is over; does not wait.

        Args:
            then: called once on the loop's thread, when nothing is left, or with the reason why
                something still is after 10 seconds.
        """
        run, waiting = self.run, [then]
        if run is None:
            then(None)
            return

        def tell(error: CannotKillError | None) -> None:
            self.jobs.cancel()
            for hear in waiting:
                hear(error)
            waiting.clear()

        def despair() -> None:
            tell(CannotKillError.of(run.members()))

        run.kill(then=lambda: self.loop.post(lambda: tell(None)))
        self.jobs.later(KILL_TIMEOUT, despair)

    def catch_up(self) -> None:
        """Wait until all that it has written so far has been taken, where that is not our task.

        Who has heard from it another way, by a socket or a file, finds what it wrote before.
        """
        run, ours = self.run, os.getpid() == self._pid and not sys.is_finalizing()
        if run is not None and run.stdio.is_read() and ours and self.loop is supervisor():
            supervisor().call(run.stdio.catch_up)

    def usage(self) -> Usage | None:
        """What its last run has used; None while it runs."""
        return self.run.usage() if self.run is not None else None

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return self.run.members() if self.run is not None else []

    def despair(self, run: Execution) -> None:
        """It does not end: whoever waits for it must hear that, rather than wait for ever."""
        if not self._told:
            self._finish(Status.KILLED, CannotKillError.of(run.members()))

    def _expire(self) -> None:
        if self._lingers:
            self._stop_lingering()
            return
        self.timed_out = True
        self._stop(self.options.grace_period)

    def _stop_lingering(self) -> None:
        self._lingered = True
        run = self.run
        if run is not None and run.end is not None:
            self.conclude(run, run.end)

    def conclude(self, run: Execution, end: End) -> None:
        """It has ended; if we are interrupted in the middle, :meth:`stop` does it all again."""
        run.close_channel()
        if self._told or self.status is Status.PENDING:
            return  # begin() was interrupted, and says so
        run.stdio.ended()
        if self._waits_for_others(run, end):
            return
        self.jobs.cancel()
        run.forget_companions()
        run.stdio.on_closed = None
        if end.exit_code < 0:
            self.signal = -end.exit_code
        if self._ladder.begun:
            run.kill()
            self._ladder.end()
            self._finish(Status.KILLED)
        elif not self._restart(run, end):
            self._finish(Status.KILLED if end.exit_code < 0 else Status.EXITED)

    def _waits_for_others(self, run: Execution, end: End) -> bool:
        """Whether it has ended, but what it started is still given time."""

        def again() -> None:
            self.conclude(run, end)

        if self._ladder.begun:
            return self._ladder.waits(run, again)
        self._lingers = self._linger > 0 and not self._lingered and run.stdio.is_read()
        if self._lingers:
            run.stdio.on_closed = again
            self.jobs.later(self._linger, self._stop_lingering)
        return self._lingers

    def _restart(self, run: Execution, end: End) -> bool:
        policy = self.options.restart
        if policy is None:
            return False
        if end.at - run.began >= policy.reset_after:
            self._streak = 0
        pause = policy.pause(end.exit_code, self._streak)
        if pause is None:
            return False
        self._streak += 1
        self.status = move(self.status, Status.PENDING)
        # What the old one left behind may still hold its port.
        run.kill(then=lambda: self.jobs.later(pause, self._again))
        return True

    def _again(self) -> None:
        if self._ladder.begun or self.status in ENDED:
            return
        if self.run is not None:
            self.run.close()
        self.restarts += 1
        self._start(hurry=False)

    def _finish(self, status: Status, error: Exception | None = None) -> None:
        self.error = error
        if self.status not in ENDED:
            self.status = move(self.status, status)
        self.over.set()
        self.begun.set()
        self._watcher.on_end(error)
        self._told = True
