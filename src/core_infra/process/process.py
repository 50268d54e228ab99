"""A process that the service has started."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra.errors import TimeoutExpiredError, WrongStateError
from core_infra.process.errors import start_error
from core_infra.process.info import ProcessInfo, Usage
from core_infra.process.launch import launch
from core_infra.process.output import Output
from core_infra.process.status import ENDED, Status, move
from core_infra.process.stdio import Stdio
from core_infra.process.supervisor import Timer, supervisor

if TYPE_CHECKING:
    from core_infra.process.events import Stream
    from core_infra.process.launch import End, Launched
    from core_infra.process.options import RunOptions
    from core_infra.process.ring import Piece


class Listener(Protocol):
    """Who hears what happens to processes, each process's events in their order."""

    def started(self, process: Process, pid: int) -> None:
        """It runs."""

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """It has written."""

    def ended(self, process: Process, error: Exception | None) -> None:
        """It is over; has to set ``process.done`` once everybody knows."""

    def wait(self, process: Process, timeout: float | None) -> bool:
        """Wait for ``process.done``, or for less where that would never come."""


class Process:
    """A program in the service's care; made by :meth:`Service.start`.

    Attributes:
        id: ``proc-1``, ``proc-2``, ….
        options: what it was started with.
        done: set when it is over and all its output has been told.
        timed_out: whether it was ended because its timeout was over.
    """

    def __init__(
        self, name: str, options: RunOptions, buffer_size: int, listener: Listener
    ) -> None:
        self.id = name
        self.options = options
        self.done = threading.Event()
        self.timed_out = False
        self._listener = listener
        size = 1 if options.disable_capture else options.buffer_size or buffer_size
        self._output = Output(size)
        self._lock = threading.RLock()
        self._status = Status.PENDING
        self._stopping = False
        self._signal = 0
        self._launched: Launched | None = None
        self._stdio: Stdio | None = None
        self._end: End | None = None
        self._error: Exception | None = None
        self._restarts = 0
        self._started: float | None = None
        self._started_at: datetime | None = None
        self._timers: list[Timer] = []

    @property
    def pid(self) -> int | None:
        """Its process id; None before its start."""
        return self._launched.pid if self._launched else None

    @property
    def status(self) -> Status:
        """Where in its life it is."""
        return self._status

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if a signal ended it; None while it runs."""
        return self._end.exit_code if self._end else None

    @property
    def last_signal(self) -> int:
        """The signal that ended it, or else the last one sent; 0 if there was none."""
        return self._signal

    def is_running(self) -> bool:
        """Whether it runs at this moment."""
        return self._status is Status.RUNNING

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it is over; its exit code.

        What it started and left behind is not waited for. When this returns, its output is
        complete and all handlers of its events have run.

        Args:
            timeout: seconds; None waits for ever. The process goes on after it.

        Raises:
            TimeoutExpiredError: it still runs.
        """
        if not self._listener.wait(self, timeout):
            raise TimeoutExpiredError(
                f"{self} still runs after {timeout} s",
                todo="kill() ends it.",
                timeout=timeout,
            )
        if self._end is None:
            assert self._error is not None  # noqa: S101 - it failed to start
            raise self._error
        return self._end.exit_code

    def signal(self, number: int) -> None:
        """Send a signal to the program, and to nothing else.

        Raises:
            WrongStateError: it does not run.
        """
        with self._lock:
            launched = self._running("signal")
            self._signal = number
        launched.signal(number)

    def kill(self) -> None:
        """End it and all that it ever started, at once; returns when they are gone."""
        self.begin_to_stop(0)
        self.done.wait()

    def stop(self, grace: float | None = None) -> None:
        """Ask it to end (SIGTERM to its group); kill what is left after *grace* seconds.

        Args:
            grace: seconds; None is the options' grace_period.
        """
        self.begin_to_stop(grace)
        self.done.wait()

    def send_input(self, text: str | bytes) -> None:
        """Give it something to read; never blocks: what it does not read yet, is kept.

        Raises:
            WrongStateError: it does not run, or does not read from us, or its input is closed.
        """
        with self._lock:
            self._running("send_input")
            feeder = self._stdio.feeder if self._stdio else None
        if feeder is None:
            raise WrongStateError(
                f"cannot send input to {self}",
                why="it was started with an input of its own",
                needed="stdin=None",
                found="stdin given",
            )
        feeder.send(text.encode() if isinstance(text, str) else text)

    def close_stdin(self) -> None:
        """Let it read the end of its input; doing it twice is no error."""
        with self._lock:
            if self._stdio is not None and self._stdio.feeder is not None:
                self._stdio.feeder.close()

    def output(self, stream: Stream | None = None) -> str:
        """What is kept of its output as text; what is no UTF-8 is shown as U+FFFD.

        Args:
            stream: of which; None is both in the order of arrival.
        """
        return self.output_bytes(stream).decode(errors="replace")

    def output_bytes(self, stream: Stream | None = None) -> bytes:
        """What is kept of its output, exactly: the last ``buffer_size`` bytes of both streams."""
        return b"" if self.options.disable_capture else self._output.read(stream)

    def read(self, offset: int = 0, timeout: float | None = 0) -> Piece:
        """Output from an absolute offset on, and how much before it is lost.

        Args:
            offset: 0, or the ``end`` of the piece that was read last.
            timeout: seconds to wait for output if there is none; None waits until there is, or
                no more will come.
        """
        self._output.ring.wait(offset, timeout)
        return self._output.ring.read(offset)

    def info(self) -> ProcessInfo:
        """What is known of it at this moment."""
        with self._lock:
            end, started = self._end, self._started
            last = end.at if end else time.monotonic()
            duration = last - started if started is not None else 0.0
            return ProcessInfo(
                id=self.id,
                command=os.fspath(self.options.command),
                args=tuple(self.options.argv()[1:]),
                dir=Path(self.options.dir or Path.cwd()),
                started_at=self._started_at,
                status=self._status,
                exit_code=end.exit_code if end else None,
                duration=duration,
                pid=self.pid,
                restarts=self._restarts,
                usage=Usage(duration, end.user, end.system, end.peak_memory) if end else None,
            )

    def __repr__(self) -> str:
        return f"<Process {self.id} {os.fspath(self.options.command)!r}: {self._status}>"

    # -- its life -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it, for the first time or again.

        Raises:
            ProgramNotFoundError: the program or the directory is not there.
            CannotStartError: the system does not start it.
        """
        options = self.options
        captured = options.log is None and not options.detach
        stdio = Stdio(options, self._wrote if captured else None)
        self._stdio = stdio
        self._started, self._started_at = time.monotonic(), datetime.now(UTC)
        with self._lock:
            try:
                launched = launch(
                    options.argv(),
                    cwd=None if options.dir is None else os.fspath(options.dir),
                    env=options.environment(),
                    stdio=stdio.theirs,
                    pass_fds=options.pass_fds,
                    on_end=self._ended,
                )
            except OSError as error:
                stdio.close()
                raise self._failed(error) from None
            self._launched = launched
            self._status = move(self._status, Status.RUNNING)
            if options.timeout is not None:
                self._timers.append(supervisor().after(options.timeout, self._expire))
        self._listener.started(self, launched.pid)
        stdio.given()
        stdio.begin()

    def _failed(self, cause: OSError) -> Exception:
        self._status = move(self._status, Status.FAILED)
        self._error = start_error(self.options.argv()[0], self.options.dir, cause)
        self._output.ring.close()
        self._listener.ended(self, self._error)
        return self._error

    def _running(self, what: str) -> Launched:
        if self._status is not Status.RUNNING or self._launched is None:
            raise WrongStateError(
                f"cannot {what} {self}",
                why=f"it is {self._status}",
                needed=str(Status.RUNNING),
                found=str(self._status),
            )
        return self._launched

    def _wrote(self, stream: Stream, data: bytes) -> None:
        if not self.options.disable_capture:
            self._output.write(stream, data)
        self._listener.wrote(self, stream, data)

    def begin_to_stop(self, grace: float | None = None) -> None:
        """Do as :meth:`stop` does, without waiting."""
        if grace is None:
            grace = self.options.grace_period
        with self._lock:
            self._stopping = True
            if self._status in ENDED or self._launched is None:
                return
            if grace > 0:
                self._signal = signal.SIGTERM
                self._launched.signal_group(signal.SIGTERM)
                self._timers.append(supervisor().after(grace, self._launched.kill_tree))
            else:
                self._signal = signal.SIGKILL
                self._launched.kill_tree()

    def _expire(self) -> None:
        self.timed_out = True
        self.begin_to_stop()

    def _ended(self, end: End) -> None:
        with self._lock:
            for timer in self._timers:
                timer.cancel()
            self._end = end
            if self._stdio is not None:
                self._stdio.drain()
            by_signal = end.exit_code < 0 or self._stopping
            if end.exit_code < 0:
                self._signal = -end.exit_code
            self._status = move(self._status, Status.KILLED if by_signal else Status.EXITED)
        self._output.ring.close()
        self._listener.ended(self, None)
