"""A process that the service has started."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import Path, os, time
from core_infra.errors import InvalidError, TimeoutExpiredError, WrongStateError
from core_infra.process._lifecycle import Life
from core_infra.process._options import RunOptions, check_seconds
from core_infra.process._output import DEFAULT_SIZE, Output
from core_infra.process._publisher import Silent
from core_infra.process._readiness import wait_ready
from core_infra.process._status import ProcessInfo, Status
from core_infra.process._streams import Keyboard
from core_infra.process._terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._eventloop.loop import Loop
    from core_infra.process._errors import CannotKillError
    from core_infra.process._events import Stream
    from core_infra.process._options import Input
    from core_infra.process._output import Parts, Piece
    from core_infra.process._probes import Probe
    from core_infra.process._status import Usage


_LOOK = 0.05
"""Seconds between two looks whether a program is over, while another is waited for."""


class Listener(Protocol):
    """Who hears what happens to processes, each process's events in their order."""

    def started(self, process: Process, pid: int) -> None:
        """It runs."""

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """It has written; called on the loop's thread."""

    def ended(self, process: Process, error: Exception | None) -> None:
        """It is over; has to call ``process.finish()`` once everybody knows."""

    def awaited(self, process: Process) -> Latch:
        """What to wait for: ``process.done``, or less where that would never come."""

    def close(self) -> None:
        """There are no more processes."""


class Process:
    """A program in the service's care; made by :meth:`Service.start`.

    Attributes:
        id: ``proc-1``, ``proc-2``, ….
        options: what it was started with.
        done: set when it is over and all its output has been told.
    """

    def __init__(
        self,
        name: str,
        options: RunOptions,
        *,
        stdin: Input,
        buffer_size: int,
        group: int,
        listener: Listener,
        loop: Loop,
        on_done: Callable[[], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        linger: float = 0,
    ) -> None:
        self.id = name
        self.options = options
        self.done = Latch()
        self._listener = listener
        self._on_done = on_done
        self._on_output = on_output
        self._output = Output(buffer_size)
        self._group = group
        self._run_start = 0
        wait = linger if options.linger is None else options.linger
        self._life = Life(options, stdin, group, self, loop, linger=wait)

    @property
    def pid(self) -> int | None:
        """Its process id, also when it is over; None before its start."""
        return self._life.pid

    @property
    def status(self) -> Status:
        """Where in its life it is."""
        return self._life.status

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if a signal ended it; None while it runs."""
        run = self._life.run
        return run.end.exit_code if run is not None and run.end is not None else None

    @property
    def error(self) -> Exception | None:
        """Why it could not be started; None if it could."""
        return self._life.error

    @property
    def usage(self) -> Usage | None:
        """What its last run has used; None while it runs."""
        return self._life.usage()

    @property
    def over(self) -> Latch:
        """Set when it is over, though not everybody may know that yet."""
        return self._life.over

    @property
    def timed_out(self) -> bool:
        """Whether it was ended because its timeout was over."""
        return self._life.timed_out

    @property
    def last_signal(self) -> int:
        """The signal that ended it, or else the last one sent; 0 if there was none."""
        return self._life.signal

    def is_running(self) -> bool:
        """Whether it runs, or will again after a pause."""
        return not self._life.over.is_set()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it is over; its exit code.

        What it started and left behind is not waited for. When this returns, its output is
        complete and all handlers of its events have run.

        Args:
            timeout: seconds; None waits for ever. The process goes on after it.

        Raises:
            TimeoutExpiredError: it still runs.
        """
        if not self.done.is_set():
            check_seconds("timeout", timeout)
            self._life.require_ours("wait for")
        if not self._wait(timeout):
            raise TimeoutExpiredError(
                f"{self} still runs after {timeout:g} s", todo="kill() ends it.", timeout=timeout
            )
        if self.error is not None:
            raise self.error
        exit_code = self.exit_code
        if exit_code is None:
            raise WrongStateError(f"{self} was never started")
        return exit_code

    def signal(self, number: int) -> None:
        """Send a signal to the program, and to nothing else.

        Raises:
            InvalidError: there is no such signal.
            UnavailableError: it runs as another user, as with sudo.
            WrongStateError: it does not run.
        """
        self._life.send_signal(number)

    def kill(self) -> None:
        """End it and all that it ever started, at once; returns when they are gone.

        Raises:
            CannotKillError: something still runs 10 seconds later, such as another user's process.
        """
        self.stop(0)

    def stop(self, grace: float | None = None) -> None:
        """Ask it to end (``stop_signal`` to its group); then kill what is left.

        What is left is killed earlier, once it and all of its process group have ended. That group
        is asked also if the program itself has ended before.

        Args:
            grace: seconds; None is the options' grace_period.

        Raises:
            CannotKillError: something still runs 10 seconds later, such as another user's process.
        """
        self.begin_to_stop(grace)
        self.finish_stopping()

    def begin_to_stop(self, grace: float | None = None) -> None:
        """Do as :meth:`stop` does, without waiting."""
        check_seconds("grace", grace)
        self._life.stop(self.options.grace_period if grace is None else grace)

    def finish_stopping(self) -> None:
        """Wait until it and all that it started are gone, after :meth:`begin_to_stop`."""
        self._life.await_gone()
        self._wait(None)

    def clear(self, then: Callable[[CannotKillError | None], None]) -> None:
        """Kill what it has left behind, now that it is over, without waiting.

        Args:
            then: called on the loop's thread, with None when nothing is left.
        """
        self._life.clear(then)

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return self._life.leftovers()

    def wait_ready(self, *probes: Probe, timeout: float = 30.0, interval: float = 0.05) -> Self:
        """Wait until all *probes* have succeeded, one after the other; see :mod:`probes`.

        Args:
            probes: ``LogPattern("listening on")``, ``TcpPort(8080)``, ….
            timeout: seconds for all of them together.
            interval: seconds between two looks; output is noticed as it comes.

        Raises:
            NotReadyError: the time is over, or the process; tells which probe failed and why, the
                last lines, the ports that it listens on, and whether it still runs.
        """
        check_seconds("timeout", timeout)
        check_seconds("interval", interval)
        wait_ready(self, probes, timeout=timeout, interval=interval)
        return self

    @functools.cached_property
    def terminal(self) -> Terminal:
        """A pexpect object on its terminal; WrongStateError if it has none (``pty=True``)."""
        if not self.options.pty:
            raise WrongStateError(
                f"{self} has no terminal",
                todo="Start it with RunOptions(…, pty=True).",
                needed="pty=True",
                found="pty=False",
            )
        return Terminal(self)

    def send_input(self, text: str | bytes) -> None:
        """Give it something to read; never blocks: what it does not read yet, is kept.

        Raises:
            WrongStateError: it does not run, or does not read from us, or its input is closed.
        """
        feeder = self._life.require_running("send_input").stdio.feeder
        if feeder is None:
            raise WrongStateError(
                f"cannot send input to {self}",
                why="it was started with an input of its own",
                needed="stdin=None",
                found="stdin given",
            )
        if not isinstance(text, str | bytes):
            raise InvalidError(f"cannot send {text!r}", why="that is neither text nor bytes")
        try:
            data = text.encode() if isinstance(text, str) else text
        except UnicodeEncodeError as error:
            raise InvalidError(
                f"cannot send {text!r}", why=str(error), todo="Give bytes."
            ) from None
        feeder.send(data)

    def keyboard(self) -> Keyboard:
        """What types on its terminal; WrongStateError if it has none, or does not run."""
        feeder = self._life.require_running("type on the terminal of").stdio.feeder
        assert isinstance(feeder, Keyboard)  # noqa: S101 - who has a Terminal, has one
        return feeder

    def close_stdin(self) -> None:
        """Let it read the end of its input; doing it twice is no error.

        On a terminal this types the key for the end (Ctrl-D); there, only a program that reads
        lines sees an end in it.
        """
        self._life.require_ours("close stdin of")
        run = self._life.run
        if run is not None and run.stdio.feeder is not None:
            run.stdio.feeder.close()

    def output(self, stream: Stream | None = None) -> str:
        """What is kept of its output as text; what is no UTF-8 is shown as U+FFFD.

        Args:
            stream: of which; None is both in the order of arrival.
        """
        return self.output_bytes(stream).decode(errors="replace")

    def output_bytes(self, stream: Stream | None = None) -> bytes:
        """What is kept of its output, exactly: the last ``buffer_size`` bytes of both streams."""
        self._life.catch_up()
        return self._output.read(stream)

    @property
    def written(self) -> int:
        """How many bytes it has written so far, on both streams: an offset for :meth:`read`."""
        self._life.catch_up()
        return self._output.ring.end

    def read(self, offset: int = 0, timeout: float | None = 0) -> Piece:
        """Output from an absolute offset on, and how much before it is lost.

        Args:
            offset: 0, or the ``end`` of the piece that was read last.
            timeout: seconds to wait for output if there is none; None waits until there is, or
                no more will come.
        """
        check_seconds("timeout", timeout)
        self._life.catch_up()
        self._output.ring.wait(offset, timeout)
        return self._output.ring.read(offset)

    def parts(self, offset: int, timeout: float | None) -> Parts:
        """Output from an absolute offset on, by streams; waits as :meth:`read` does."""
        self._life.catch_up()
        self._output.ring.wait(offset, timeout)
        return self._output.parts(offset)

    @property
    def run_start(self) -> int:
        """The offset that the output of its last run, after the last restart, begins at."""
        return self._run_start

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._life.restarts

    def run_beside(self, command: Sequence[str], timeout: float) -> Process:
        """Run a command with its environment, in its directory, to the end; nothing is left of it.

        It is ended after *timeout* seconds, or if this process ends before it.

        Raises:
            InvalidError: it is no command.
        """
        options = dataclasses.replace(
            RunOptions(command[0] if command else "", command[1:]),
            dir=self.options.directory(),
            env=self.options.env,
            clean_env=self.options.clean_env,
            timeout=timeout,
            grace_period=0,
        )
        options.check()
        other = Process(
            f"{self.id}-beside",
            options,
            stdin=b"",
            buffer_size=DEFAULT_SIZE,
            group=self._group,
            listener=Silent(),
            loop=supervisor(),
        )
        try:
            other.begin(hurry=False)
            while not other.over.wait(_LOOK) and self.is_running():
                pass
        finally:
            other.kill()
        return other

    def info(self) -> ProcessInfo:
        """What is known of it at this moment."""
        life = self._life
        status, run = life.status, life.run
        end = run.end if run is not None and status is not Status.RUNNING else None
        usage = life.usage() if end is not None else None
        so_far = time.monotonic() - run.began if run is not None else 0.0
        command, *args = self.options.argv()
        return ProcessInfo(
            id=self.id,
            command=command,
            args=tuple(args),
            dir=Path(self.options.directory()),
            started_at=datetime.fromtimestamp(run.began_at, UTC) if run is not None else None,
            status=status,
            exit_code=end.exit_code if end is not None else None,
            duration=usage.wall if usage else so_far,
            pid=life.pid,
            restarts=life.restarts,
            usage=usage,
        )

    def __repr__(self) -> str:
        return f"<Process {self.id} {os.fspath(self.options.command)!r}: {self.status}>"

    # What the service and its life call.

    def begin(self, *, hurry: bool) -> None:
        """Have it started; :meth:`wait` raises what comes of that.

        Args:
            hurry: we are told of its start at once; else, with its end if that is soon.
        """
        self._life.begin(hurry=hurry)

    def await_begun(self) -> None:
        """Wait until it runs; raises as :meth:`Service.start_with_options` does."""
        self._life.loop.wait(self._life.begun)
        if self.error is not None:
            raise self.error

    def give_up(self, error: BaseException) -> None:
        """End it, as whoever began it was interrupted and has no hand on it; nothing if over."""
        self._life.give_up(error)

    def pause_output(self) -> None:
        """Make it wait if it writes more; on the loop's thread."""
        if self._life.run is not None:
            self._life.run.stdio.pause()

    def resume_output(self) -> None:
        """Read on, soon."""
        if self._life.run is not None:
            self._life.loop.post(self._life.run.stdio.resume)

    def on_start(self, pid: int) -> None:
        """It runs."""
        self._run_start = self._output.ring.end
        self._listener.started(self, pid)

    def on_output(self, stream: Stream, data: bytes) -> None:
        """It, or something that it left behind, has written."""
        if not self.options.disable_capture:
            self._output.write(stream, data)
        if not self._life.over.is_set():
            self._listener.wrote(self, stream, data)
            if self._on_output is not None:
                self._on_output(data)

    def on_end(self, error: Exception | None) -> None:
        """It is over."""
        self._output.ring.close()
        self._listener.ended(self, error)

    def finish(self) -> None:
        """Everybody knows that it is over; who was interrupted may say so again."""
        if self.done.is_set():
            return
        self.done.set()
        self._life.loop.wake()  # it may be run until then
        if self._on_done is not None:
            self._on_done()

    def _wait(self, timeout: float | None) -> bool:
        """Wait until everybody knows; on the loop's own thread, that is what makes it go on."""
        return self._life.loop.wait(self._listener.awaited(self), timeout)
