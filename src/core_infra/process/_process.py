"""A process as its users see it, and the protocol of probes for its readiness."""

from __future__ import annotations

import dataclasses
import errno
import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import Path, os, time
from core_infra.errors import InvalidError, TimeoutExpiredError, UnavailableError, WrongStateError
from core_infra.process._captured_run import run_captured
from core_infra.process._options import RunOptions
from core_infra.process._process_output import ProcessOutput
from core_infra.process._readiness import check_probe, wait_ready
from core_infra.process._status import ProcessInfo, Status
from core_infra.process._streams import TerminalInput
from core_infra.process._terminal import Terminal
from core_infra.process._values import check_seconds, check_signal, is_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.process._captured_run import CommandResult
    from core_infra.process._execution import Execution
    from core_infra.process._lifecycle import Lifecycle
    from core_infra.process._output import Output
    from core_infra.process._status import Usage


class Probe(Protocol):
    """A condition for :meth:`Process.wait_ready`; errors show its ``repr``.

    It may have the attributes ``timeout``, the seconds that one check may take (default: 1), and
    ``waits``: its check waits for a change by itself.
    """

    def check(self, process: Process, patience: float) -> str | None:
        """Check once; returns None if the process is ready, and else the reason why it is not.

        Args:
            process: the process.
            patience: seconds that this may take at most.
        """


class Process(ProcessOutput):
    """A program in the care of a service; started by :meth:`Service.start`.

    Attributes:
        id: ``proc-1``, ``proc-2``, ….
        options: the program, and how it was started.
        done: set when it is over and all its output has been published.
    """

    def __init__(
        self, name: str, options: RunOptions, life: Lifecycle, output: Output, group: int
    ) -> None:
        self.id = name
        self.options = options
        self.done = Latch()
        super().__init__(life, output)
        self._group = group

    @property
    def pid(self) -> int | None:
        """Its process id, also when it is over; None before its start."""
        return self._life.pid

    @property
    def status(self) -> Status:
        """Its state."""
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
        """The resources that its last run has used; None while it runs."""
        run = self._life.run
        return run.usage() if run is not None else None

    @property
    def over(self) -> Latch:
        """Set when it is over, perhaps before handlers of its events have run."""
        return self._life.over

    @property
    def timed_out(self) -> bool:
        """Whether it was stopped because of its timeout."""
        return self._life.timed_out

    @property
    def last_signal(self) -> int:
        """The signal that ended it, or else the last one sent; 0 if there was none."""
        return self._life.last_signal

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return self._life.restarts

    def is_running(self) -> bool:
        """Whether it runs, or will again after a pause."""
        return not self._life.over.is_set()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it is over; returns its exit code.

        Programs that it started and left behind are not waited for. When this returns, its output
        is complete and all handlers of its events have run.

        Args:
            timeout: seconds; None waits forever. The process keeps running after it.

        Raises:
            TimeoutExpiredError: it still runs.
        """
        if not self.done.is_set():
            check_seconds("timeout", timeout)
            self._require_owner("wait for")
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
        check_signal(number)
        error = self._require_running("signal").signal(number)
        if error == errno.EPERM:
            raise UnavailableError(
                f"cannot send {self.options.argv()[0]!r} the signal {number}",
                why="it runs as another user, as with sudo",
                errno=error,
            )
        self._life.last_signal = number

    def kill(self) -> None:
        """Kill it and all that it ever started; returns when they are gone.

        Raises:
            CannotKillError: something still runs 10 seconds later, such as another user's process.
        """
        self.stop(0)

    def stop(self, grace: float | None = None) -> None:
        """Send ``stop_signal`` to its process group; then kill what is left.

        What is left is killed before the time is over if the program and all of its process group
        have ended. The group gets the signal also if the program itself has ended before.

        Args:
            grace: seconds; None is the options' grace_period.

        Raises:
            CannotKillError: something still runs 10 seconds later, such as another user's process.
        """
        self._start_stopping(grace)
        self._await_stopped()

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return self._life.leftovers()

    def wait_ready(self, *probes: Probe, timeout: float = 30.0, interval: float = 0.05) -> Self:
        """Wait until all *probes* have succeeded, one after the other.

        Args:
            probes: ``LogPattern("listening on")``, ``TcpPort(8080)``, ….
            timeout: seconds for all of them together.
            interval: seconds between two checks; output is checked as it arrives.

        Raises:
            NotReadyError: the time is over, or the process. The message has the probe that failed
                and why, the last lines, the ports that the process listens on, and its state.
        """
        check_seconds("timeout", timeout, optional=False)
        check_seconds("interval", interval, optional=False)
        for probe in probes:
            check_probe(probe)
        checks = [(probe, functools.partial(probe.check, self)) for probe in probes]
        wait_ready(self, checks, timeout=timeout, interval=interval)
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
        return Terminal(self, self._terminal_input)

    def send_input(self, text: str | bytes) -> None:
        """Write to its standard input; never blocks: what it does not read yet is queued.

        Raises:
            WrongStateError: it does not run, or has an input of its own, or its input is closed.
        """
        writer = self._require_running("send_input").stdio.writer
        if writer is None:
            raise WrongStateError(
                f"cannot send input to {self}",
                why="it was started with an input of its own",
                needed="stdin=None",
                found="stdin given",
            )
        if not isinstance(text, str | bytes):
            raise InvalidError(f"cannot send {text!r}", why="it must be text or bytes")
        try:
            data = text.encode() if isinstance(text, str) else text
        except UnicodeEncodeError as error:
            raise InvalidError(
                f"cannot send {text!r}", why=str(error), todo="Give bytes."
            ) from None
        writer.send(data)

    def close_stdin(self) -> None:
        """End its standard input; may be called twice.

        On a terminal this types the end-of-input key (Ctrl-D), for programs that read lines.
        """
        self._require_owner("close stdin of")
        run = self._life.run
        if run is not None and run.stdio.writer is not None:
            run.stdio.writer.close()

    def run_beside(self, command: Sequence[str], timeout: float) -> CommandResult:
        """Run a command with its environment, in its directory, to the end.

        The command is killed, with all that it has started, after *timeout* seconds, and when this
        process ends.

        Raises:
            InvalidError: it cannot be run.
        """
        if not is_command(command):
            raise InvalidError(f"{command!r} is not a command", todo="Give a list of words.")
        check_seconds("timeout", timeout, optional=False)
        options = dataclasses.replace(
            RunOptions(command[0], command[1:]),
            dir=self.options.directory(),
            env=self.options.env,
            clean_env=self.options.clean_env,
            timeout=timeout,
            grace_period=0,
        )
        options.check()
        return run_captured(options, self._group, while_true=self.is_running)

    def info(self) -> ProcessInfo:
        """A snapshot of what is known of it."""
        life = self._life
        status, run = life.status, life.run
        end = run.end if run is not None and status is not Status.RUNNING else None
        usage = run.usage() if run is not None and end is not None else None
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

    def _start_stopping(self, grace: float | None) -> None:
        check_seconds("grace", grace)
        self._require_owner("stop")
        self._life.stop(self.options.grace_period if grace is None else grace)

    def _await_stopped(self) -> None:
        self._life.await_gone()
        self._wait(None)

    def _wait(self, timeout: float | None) -> bool:
        """Wait until it is done; on the loop's own thread, run the loop meanwhile."""
        return self._life.loop.wait(self._awaited(), timeout)

    def _awaited(self) -> Latch:
        return self.done

    def _terminal_input(self) -> TerminalInput:
        writer = self._require_running("type on the terminal of").stdio.writer
        assert isinstance(writer, TerminalInput)  # noqa: S101 - of every process with pty=True
        return writer

    def _require_running(self, call: str) -> Execution:
        """Its run; raises WrongStateError if it does not run."""
        self._require_owner(call)
        run = self._life.run
        if self.status is not Status.RUNNING or run is None:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why=f"it is {self.status}",
                needed=str(Status.RUNNING),
                found=str(self.status),
            )
        return run

    def _require_owner(self, call: str) -> None:
        """Raise WrongStateError in a child that was forked from the process that started it."""
        if os.getpid() != self._owner:
            raise WrongStateError(
                f"cannot {call} {self.options.argv()[0]!r}",
                why="this process was forked from the one that started it",
                todo="Let that one do it; a service of your own starts programs of your own.",
                needed=f"process {self._owner}",
                found=f"process {os.getpid()}",
            )
