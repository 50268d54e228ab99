"""A process from its start to its end: the state machine behind :class:`Process`."""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol

from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.process.errors import start_error
from core_infra.process.keeper import StartRefusedError
from core_infra.process.latch import Latch
from core_infra.process.loop import READ
from core_infra.process.run import Run
from core_infra.process.status import ENDED, Status, move
from core_infra.process.supervisor import Timer, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.events import Stream
    from core_infra.process.info import Usage
    from core_infra.process.loop import Loop
    from core_infra.process.options import RunOptions
    from core_infra.process.wire import End


_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY})
"""What the system lacks at one moment, and may have at the next."""
_PATIENCE = 0.1
"""Seconds until what failed for that is tried again."""


class Watcher(Protocol):
    """Who is told how a life goes; all but the start on the loop's thread."""

    def on_start(self, pid: int) -> None:
        """It runs."""

    def on_output(self, stream: Stream, data: bytes) -> None:
        """It has written."""

    def on_end(self, error: Exception | None) -> None:
        """It is over; *error* says why it could not be started."""


class Life:
    """Starts a program, perhaps again and again, and ends it.

    Args:
        options: what it is run with.
        stdin: what it reads; as in the options.
        group: the keeper's group that it belongs to.
        watcher: is told of everything.
        loop: attends to it.
    """

    def __init__(
        self, options: RunOptions, stdin: Any, group: int, watcher: Watcher, loop: Loop
    ) -> None:
        self.options = options
        self.loop = loop
        self.lock = threading.RLock()
        self.status = Status.PENDING
        self.over = Latch()
        self.run: Run | None = None
        self.error: Exception | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.signal = 0
        self.timed_out = False
        self._stdin = stdin
        self._group = group
        self._watcher = watcher
        self._stopping = False
        self._starting = True
        self._told = False
        self._streak = 0  # restarts since it was last healthy
        self._timers: list[Timer] = []

    def begin(self, *, wait: bool) -> None:
        """Start it, for the first time or again.

        Args:
            wait: until it runs. Else the loop hears of that, and what is raised here then, is told.

        Raises:
            ProgramNotFoundError: the program or the directory is not there.
            CannotStartError: the system does not start it.
        """
        try:
            run = self._ask()
            if wait:
                self._attend(run)
            self.loop.watch(run.channel, READ, lambda _: self._hear(run))
        except OSError as cause:
            if cause.errno is None:  # a signal's handler raises it: the system says what it means
                self.give_up(cause)
                raise
            raise self._refuse(cause) from None
        except CoreInfraError as error:  # there is no keeper
            self._fail(error, passing=True)
            raise
        except BaseException as error:
            self.give_up(error)
            raise

    def give_up(self, error: BaseException) -> None:
        """Whoever began it was interrupted, wherever that was; nothing if all is told."""
        with self.lock:
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

    def _ask(self) -> Run:
        options = self.options
        is_captured = options.log is None and not options.detach
        wrote = self._watcher.on_output if is_captured else None
        self.run = run = Run(options, self._stdin, self._group, self.loop, wrote)
        try:
            run.ask()
        except BaseException:
            run.close()
            raise
        return run

    def _refuse(self, cause: OSError) -> CoreInfraError:
        in_directory = isinstance(cause, StartRefusedError) and cause.in_directory
        error = start_error(self.options, cause, in_directory=in_directory)
        self._fail(error, passing=cause.errno in _PASSING)
        return error

    def _fail(self, error: CoreInfraError, *, passing: bool) -> None:
        """It was not started; if that may pass, and it is one to be restarted, not yet."""
        if self.run is not None:
            self.run.close()
        if passing and self.restarts and not self._stopping:
            policy = self.options.restart
            pause = policy.pause(1, self._streak) if policy is not None else None
            if pause is not None:
                self._streak += 1
                self._starting = False
                self._later(pause, self._again)
                return
        self._finish(Status.FAILED, error)

    def _hear(self, run: Run) -> None:
        """There is news of a run: it was started, or has ended."""
        if self._told:  # whoever began it was interrupted, and it has been killed
            run.close()
        elif self.status is not Status.PENDING:
            self._hear_end(run)
        else:
            try:
                self._attend(run)
            except OSError as cause:
                if cause.errno is None:
                    raise
                self._refuse(cause)
            except CoreInfraError as error:  # the keeper was killed
                self._fail(error, passing=True)

    def _attend(self, run: Run) -> None:
        """It runs: read what it says."""
        pid = run.started()
        with self.lock:  # whoever hears of it sees it run
            if self._told:  # it was given up meanwhile, and killed
                run.close()
                return
            self.pid = pid
            self._watcher.on_start(pid)
            self.status = move(self.status, Status.RUNNING)
            self._starting = False
            if self.options.timeout is not None:
                self._later(self.options.timeout, self._expire)
            if self._stopping:  # since before it ran
                self._climb(run, 0)
            run.stdio.begin()

    def send_signal(self, number: int) -> None:
        """Send a signal to the program; WrongStateError if it does not run."""
        with self.lock:
            run = self.require_running("signal")
            self.signal = number
            run.signal(number)

    def require_running(self, call: str) -> Run:
        """Its run; WrongStateError if it does not run."""
        if self.status is not Status.RUNNING or self.run is None:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why=f"it is {self.status}",
                needed=str(Status.RUNNING),
                found=str(self.status),
            )
        return self.run

    def stop(self, grace: float) -> None:
        """Begin to end it and all that it started; does not wait."""
        with self.lock:
            self._stopping = True
            run = self.run
            if self.status is not Status.PENDING:
                if run is None:
                    return  # it was given up before it was started
                if run.end is not None and not self._told:
                    self._conclude(run, run.end)
                else:
                    self._climb(run, grace)
            elif not self._starting:  # it pauses between two runs
                self._cancel_timers()
                self._finish(Status.KILLED)

    def await_gone(self) -> None:
        """Wait until nothing is left of it, once it was stopped.

        Raises:
            TimeoutExpiredError: the kernel does not end something, as it waits for a device.
        """
        self.loop.wait(self.over)
        if self.run is not None:
            self.run.await_gone()

    def usage(self) -> Usage | None:
        """What its last run has used; None while it runs."""
        return self.run.usage() if self.run is not None else None

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return self.run.members() if self.run is not None else []

    def _climb(self, run: Run, grace: float) -> None:
        """The stop ladder: its group is asked, then the whole tree is killed."""
        if grace > 0 and self.status is Status.RUNNING:
            self.signal = signal.SIGTERM
            run.signal(signal.SIGTERM, group=True)
            self._later(grace, lambda: self._force(run))
        else:
            self._force(run)

    def _force(self, run: Run) -> None:
        with self.lock:
            if self.status is Status.RUNNING:
                self.signal = signal.SIGKILL
            run.kill()

    def _expire(self) -> None:
        self.timed_out = True
        self.stop(self.options.grace_period)

    def _hear_end(self, run: Run) -> None:
        end = run.read_end()
        with self.lock:
            run.end = end
            self._conclude(run, end)

    def _conclude(self, run: Run, end: End) -> None:
        """It has ended; if we are interrupted in the middle, :meth:`stop` does it all again."""
        run.close_channel()
        if self._told or self.status is Status.PENDING:
            return  # begin() was interrupted, and says so
        self._cancel_timers()
        run.stdio.ended()
        if end.exit_code < 0:
            self.signal = -end.exit_code
        if self._stopping:
            run.kill()
            self._finish(Status.KILLED)
        elif not self._restart(run, end):
            self._finish(Status.KILLED if end.exit_code < 0 else Status.EXITED)

    def _restart(self, run: Run, end: End) -> bool:
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
        run.kill(then=lambda: self._later(pause, self._again))
        return True

    def _again(self) -> None:
        with self.lock:
            if self._stopping or self.status in ENDED:
                return
            if self.run is not None:
                self.run.close()
            self.restarts += 1
            self._starting = True
        with contextlib.suppress(CoreInfraError):  # the watcher is told
            self.begin(wait=False)

    def _finish(self, status: Status, error: Exception | None = None) -> None:
        self.error = error
        if self.status not in ENDED:
            self.status = move(self.status, status)
        self.over.set()
        self._watcher.on_end(error)
        self._told = True

    def _later(self, seconds: float, job: Callable[[], None]) -> None:
        def run() -> None:
            try:
                job()
            except OSError as error:  # no descriptors are left, for now
                if error.errno not in _PASSING:
                    raise
                self._later(_PATIENCE, job)

        self._timers.append(supervisor().after(seconds, lambda: self.loop.post(run)))

    def _cancel_timers(self) -> None:
        while self._timers:
            self._timers.pop().cancel()
