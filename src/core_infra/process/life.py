"""A process from its start to its end: the state machine behind :class:`Process`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.process.errors import start_error
from core_infra.process.info import Usage
from core_infra.process.keeper import StartRefusedError
from core_infra.process.keepers import keeper
from core_infra.process.latch import Latch
from core_infra.process.loop import READ
from core_infra.process.status import ENDED, Status, move
from core_infra.process.stdio import Stdio
from core_infra.process.supervisor import Timer, supervisor
from core_infra.process.wire import END_SIZE, End, read_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.events import Stream
    from core_infra.process.keeper import Keeper
    from core_infra.process.loop import Loop
    from core_infra.process.options import RunOptions


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
        self._stdin = stdin
        self.lock = threading.RLock()
        self.status = Status.PENDING
        self.over = Latch()
        self.end: End | None = None
        self.error: Exception | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.started: float | None = None
        self.started_at: float | None = None  # on time.time
        self.signal = 0
        self.timed_out = False
        self.stdio: Stdio | None = None
        self._group = group
        self._watcher = watcher
        self.loop = loop
        self._keeper: Keeper | None = None
        self._tag = 0
        self._channel = -1
        self._end_room = bytearray()
        self._stopping = False
        self._killed: Latch | None = None
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
            self._spawn()
            if wait:
                self._attend()
            else:
                self.loop.watch(self._channel, READ, self._hear_start)
        except OSError as cause:
            raise self._refuse(cause) from None
        except BaseException as error:
            self.give_up(error)
            raise

    def give_up(self, error: BaseException) -> None:
        """Whoever began it was interrupted, wherever that was; nothing if it is over."""
        if self.over.is_set():
            return
        if self._tag:  # it may have been started
            self._kill_tree()
        if self.status is Status.PENDING:
            self._finish(Status.FAILED, error if isinstance(error, Exception) else None)

    def _refuse(self, cause: OSError) -> CoreInfraError:
        in_directory = isinstance(cause, StartRefusedError) and cause.in_directory
        error = start_error(self.options, cause, in_directory=in_directory)
        self._close()
        self._finish(Status.FAILED, error)
        return error

    def _hear_start(self, _events: int) -> None:
        if self._told:  # whoever began it was interrupted, and it has been killed
            self._close()
            return
        try:
            self._attend()
        except OSError as cause:
            self._refuse(cause)
        except CoreInfraError as error:  # the keeper was killed
            self._close()
            self.give_up(error)

    def _attend(self) -> None:
        """It runs: read what it says, and hear of its end."""
        assert self._keeper is not None  # noqa: S101 - it was asked
        self.pid = self._keeper.spawned(self._channel)
        self._watcher.on_start(self.pid)
        assert self.stdio is not None  # noqa: S101 - as the keeper
        self.stdio.begin()
        with self.lock:
            self.loop.watch(self._channel, READ, self._hear)
            self.status = move(self.status, Status.RUNNING)
            self._starting = False
            if self.options.timeout is not None:
                self._later(self.options.timeout, self._expire)
            if self._stopping:
                self._climb(0)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program; WrongStateError if it does not run."""
        with self.lock:
            self.require_running("signal")
            self.signal = number
            assert self._keeper is not None  # noqa: S101 - it runs
            self._keeper.signal(self._tag, number)

    def require_running(self, call: str) -> None:
        """Raise WrongStateError if it does not run."""
        if self.status is not Status.RUNNING:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why=f"it is {self.status}",
                needed=str(Status.RUNNING),
                found=str(self.status),
            )

    def stop(self, grace: float) -> None:
        """Begin to end it and all that it started; does not wait."""
        with self.lock:
            self._stopping = True
            if self.end is not None and not self._told and self.status is not Status.PENDING:
                self._conclude(self.end)
            elif self.status is not Status.PENDING:
                self._climb(grace)
            elif not self._starting:  # it pauses between two runs
                self._cancel_timers()
                self._finish(Status.KILLED)

    def await_gone(self) -> None:
        """Wait until nothing is left of it, once it was stopped.

        Raises:
            TimeoutExpiredError: the kernel does not end something, as it waits for a device.
        """
        self.loop.wait(self.over)
        if self._keeper is not None and self._killed is not None:
            self._keeper.kill_and_wait(self._keeper.tree(self._tag), self._killed)

    def usage(self) -> Usage | None:
        """What its last run has used; None while it runs."""
        end, started = self.end, self.started
        if end is None or started is None:
            return None
        return Usage(max(0.0, end.at - started), end.user, end.system, end.peak_memory)

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        if self._keeper is None or self._keeper.lost:
            return []
        return self._keeper.members(self._keeper.tree(self._tag))

    def _spawn(self) -> None:
        options = self.options
        is_captured = options.log is None and not options.detach
        wrote = self._watcher.on_output if is_captured else None
        self._keeper = keeper()
        self.stdio = stdio = Stdio(self.loop, options, self._stdin, wrote)
        self.started, self.started_at = time.monotonic(), time.time()
        try:
            # Known before it is used: who is interrupted meanwhile must be able to end it.
            self._tag = self._keeper.new_tag(self._group, detached=options.detach)
            self._channel = self._keeper.spawn(
                self._tag,
                options.argv(),
                cwd=_absolute(options.dir),
                env=options.environment(),
                fds=stdio.theirs | {fd: fd for fd in options.pass_fds},
                terminal=options.pty,
            )
            # It starts on another processor: what can be done meanwhile takes no time.
            stdio.given()
            self._end_room = bytearray(END_SIZE)
        except BaseException:
            stdio.close()
            raise

    def _close(self) -> None:
        """It was not started."""
        if self.stdio is not None:
            self.stdio.close()
        self._close_channel()

    def _close_channel(self) -> None:
        self.loop.unwatch(self._channel)
        channel, self._channel = self._channel, -1
        if channel >= 0:
            os.close(channel)

    def _climb(self, grace: float) -> None:
        """The stop ladder: its group is asked, then the whole tree is killed."""
        if self._keeper is None:
            return  # it was given up before it was started
        if grace > 0 and self.status is Status.RUNNING:
            self.signal = signal.SIGTERM
            self._keeper.signal(self._tag, signal.SIGTERM, group=True)
            self._later(grace, self._force)
        else:
            self._force()

    def _force(self) -> None:
        with self.lock:
            if self.status is Status.RUNNING:
                self.signal = signal.SIGKILL
            self._kill_tree()

    def _kill_tree(self, then: Callable[[], None] = lambda: None) -> None:
        if self._keeper is not None and (self._killed is None or self._killed.is_set()):
            self._killed = self._keeper.kill(self._keeper.tree(self._tag), then)

    def _expire(self) -> None:
        self.timed_out = True
        self.stop(self.options.grace_period)

    def _hear(self, _events: int) -> None:
        end = read_end(self._channel, self._end_room)
        if end is None:
            assert self._keeper is not None  # noqa: S101 - it ran
            self._keeper.lose()
            end = End(-signal.SIGKILL, time.monotonic(), 0.0, 0.0, 0)
        with self.lock:
            self.end = end
            self._conclude(end)

    def _conclude(self, end: End) -> None:
        """It has ended; if we are interrupted in the middle, :meth:`stop` does it all again."""
        self._close_channel()
        if self._told or self.status is Status.PENDING:
            return  # begin() was interrupted, and says so
        self._cancel_timers()
        if self.stdio is not None:
            self.stdio.ended()
        if end.exit_code < 0:
            self.signal = -end.exit_code
        if self._stopping:
            self._kill_tree()
            self._finish(Status.KILLED)
        elif not self._restart(end):
            self._finish(Status.KILLED if end.exit_code < 0 else Status.EXITED)

    def _restart(self, end: End) -> bool:
        policy = self.options.restart
        if policy is None:
            return False
        if self.started is not None and end.at - self.started >= policy.reset_after:
            self._streak = 0
        pause = policy.pause(end.exit_code, self._streak)
        if pause is None:
            return False
        self._streak += 1
        self.status = move(self.status, Status.PENDING)
        # What the old one left behind may still hold its port.
        self._kill_tree(then=lambda: self._later(pause, self._again))
        return True

    def _again(self) -> None:
        with self.lock:
            if self._stopping or self.status in ENDED:
                return
            if self.stdio is not None:
                self.stdio.close()
            self.restarts += 1
            self._starting = True
            self.end = None
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
        self._timers.append(supervisor().after(seconds, lambda: self.loop.post(job)))

    def _cancel_timers(self) -> None:
        while self._timers:
            self._timers.pop().cancel()


def _absolute(directory: str | os.PathLike[str] | None) -> str:
    here = os.getcwd()  # noqa: PTH109 - a Path takes ten times as long, at each start
    return os.path.join(here, directory) if directory else here  # noqa: PTH118
