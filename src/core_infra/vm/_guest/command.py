"""Commands in a guest: how one is started, fed, read and ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn

from core_infra._unpatched import os, signal, time
from core_infra.errors import InvalidError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest.channel import STDERR, STDOUT, STREAMS
from core_infra.vm._guest.protocol import Done, Outcome
from core_infra.vm._guest.results import (
    SHELL,
    ExecResult,
    GuestCommandTimeoutError,
    GuestOperationError,
    OutputLine,
    joined,
    raise_failure,
    shortened,
    shown_output,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._guest.channel import Channel, Chunk
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._guest.timeline import Step


_LAST_SIGNAL = 64
MOST_OUTPUT = 512 << 20
"""The most bytes of output that are kept of a command, or read of a file at once."""


class Output:
    """The output of a command, both streams, as it is collected.

    Args:
        running: the command.
    """

    def __init__(self, running: RunningCommand) -> None:
        self._running = running
        self._pieces: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        self._size = 0

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Add what has arrived.

        Raises:
            GuestOperationError: it is too much to be kept; the command was killed.
        """
        for stream, data in chunks:
            self._pieces[stream].append(data)
            self._size += len(data)
        if self._size > MOST_OUTPUT:
            self._running.overflow()

    def result(self) -> ExecResult:
        """The result of the command, whose output was read to the end."""
        return self._running.result(*self._joined())

    def time_out(self) -> NoReturn:
        """Kill the command, and raise GuestCommandTimeoutError with its output so far."""
        self._running.time_out(*self._joined())

    def _joined(self) -> tuple[bytes, bytes]:
        return b"".join(self._pieces[STDOUT]), b"".join(self._pieces[STDERR])


class RunningCommand:
    """A command that runs in the guest, as threads and event loops follow it.

    Args:
        argv: the command as a list of arguments.
        channel: its request to the agent.
        timeout: seconds until it is killed; None: never.

    Attributes:
        argv: the command as a list of arguments.
        channel: what its input and output go through.
        deadline: when it is killed, on ``time.monotonic``; None: never.
        step: its step of the machine's timeline, if it is one.
    """

    def __init__(self, argv: list[str], channel: Channel, timeout: float | None) -> None:
        self.argv = argv
        self.channel = channel
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.step: Step | None = None
        self._timeout = timeout
        self._done: Done | None = None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it; None until that is read."""
        return None if self._done is None else _exit_code(self._done)

    @property
    def duration(self) -> float | None:
        """Seconds it ran, as the guest measured; None until its end is read."""
        return None if self._done is None else self._done.duration_ns / 1e9

    @property
    def is_running(self) -> bool:
        """Whether its end has not arrived yet."""
        return self._done is None and not self.channel.ended

    def write(self, data: str | bytes, deadline: float | None) -> None:
        """Write to its standard input; waits until *deadline* while it does not read."""
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise InvalidError(
                f"cannot write {shortened(repr(data))} to a command", todo="Give text or bytes."
            )
        try:
            piece = data.encode() if isinstance(data, str) else data
        except UnicodeEncodeError as error:
            raise InvalidError("cannot write this text to a command", why=str(error)) from error
        self.channel.write(piece, deadline)

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it started in its process group."""
        given: object = number
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _LAST_SIGNAL:
            raise InvalidError(
                f"there is no signal {number!r}", why=f"Linux has the signals 1 to {_LAST_SIGNAL}"
            )
        self.channel.signal(number)

    def read_end(self, deadline: float | None = None) -> int:
        """Drop what it still writes and wait for its end; its exit code.

        Raises:
            TimeoutExpiredError: it still runs at *deadline*.
            GuestOperationError: it could not be started.
        """
        if self._done is None:
            done = self.channel.result(deadline)
            raise_failure(done, f"cannot run {joined(self.argv)!r} in the guest")
            self._done = done
            if self.step is not None:
                self.step.finish(_exit_code(done))
        return _exit_code(self._done)

    def result(self, stdout: bytes, stderr: bytes) -> ExecResult:
        """Its result, given its output, which was read to the end."""
        code = self.read_end()
        return ExecResult(self.argv, code, stdout, stderr, self.duration or 0.0)

    def overflow(self) -> NoReturn:
        """Kill it, and raise GuestOperationError because its output is too long to be kept."""
        self.end()
        raise GuestOperationError(
            f"cannot keep the output of {joined(self.argv)!r}",
            why=f"it wrote more than {MOST_OUTPUT >> 20} MiB, and was killed",
            todo="Follow it with stream(…), or have it write to a file and pull() that.",
        )

    def end(self) -> None:
        """Kill it if it still runs; drop what it still writes."""
        if self.is_running:
            self.signal(signal.SIGKILL)
        if self.step is not None:
            self.step.finish()
        self.channel.abandon()

    def time_out(self, stdout: bytes, stderr: bytes) -> NoReturn:
        """Kill it, and raise GuestCommandTimeoutError with its output so far."""
        if self.step is not None:
            self.step.waited_for = self.channel.last_words
        self.end()
        partial = ExecResult(self.argv, -signal.SIGKILL, stdout, stderr, 0.0)
        assert self._timeout is not None  # noqa: S101 - else there was no deadline
        raise GuestCommandTimeoutError(
            f"command did not end within {self._timeout:g} s: {joined(self.argv)}",
            why=f"it was killed{shown_output(partial)}",
            todo="Give it a longer timeout=…, or set CORE_INFRA_TIMEOUT_FACTOR on a slow host.",
            command=self.argv,
            timeout=self._timeout,
            stdout=stdout,
            stderr=stderr,
        ) from None


def start_command(
    agent: AgentClient,
    command: str | Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None,
    cwd: str,
    user: str,
    timeout: float | None,
    no_input: bool = False,
    image: RunConfig | None = None,
) -> RunningCommand:
    """Start a command in the guest; the arguments are those of :meth:`Guest.exec`.

    What is not given is as *image* has it.

    Raises:
        InvalidError: the command is empty, or a part of it cannot be passed to a program.
    """
    argv = as_argv(command)
    if timeout is not None:
        timeout = timeouts.limit(timeout, 0)
    if image is not None:
        # As in a container, there is no locale unless the image sets one: with the agent's, each
        # program of the C library would read a dozen files when it starts.
        env = {"LANG": "", **image.env, **(env or {})}
        cwd = cwd or image.workdir
        user = user or image.user
    channel = agent.open_exec(
        [encoded(part, "an argument") for part in argv],
        env=_encoded_environment(env or {}),
        cwd=encoded(cwd, "cwd"),
        user=encoded(user, "user"),
        no_input=no_input,
    )
    return RunningCommand(argv, channel, timeout)


def as_argv(command: str | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The command as arguments: a string is a line for the guest's shell, a sequence is as is.

    Raises:
        InvalidError: it is neither, or has no program.
    """
    if isinstance(command, str):
        return [*SHELL, command]
    given: object = command
    parts: list[object] = list(given) if isinstance(given, Iterable) else [given]
    argv: list[str] = []
    for part in parts:
        text = os.fspath(part) if isinstance(part, str | os.PathLike) else part
        if not isinstance(text, str) or isinstance(given, Mapping):
            raise InvalidError(
                f"cannot run {shortened(repr(command))}",
                why=f"{shortened(repr(part))} is neither a text nor a path",
                todo="Give a line for the shell, or a list of texts and paths.",
            )
        argv.append(text)
    if not argv:
        raise InvalidError("cannot run an empty command", todo="Give at least a program's name.")
    return argv


def encoded(text: str, what: str) -> bytes:
    """The bytes of a text for a program; InvalidError if the system cannot pass them."""
    if not isinstance(text, str):
        raise InvalidError(
            f"cannot pass {shortened(repr(text))} to the guest", why=f"{what} must be a text"
        )
    if "\0" in text:
        raise InvalidError(
            f"cannot pass {shortened(repr(text))} to the guest",
            why=f"{what} cannot hold a NUL character",
            todo="Pass such data through standard input or a file.",
        )
    try:
        return os.fsencode(text)
    except UnicodeEncodeError as error:
        raise InvalidError(
            f"cannot pass {shortened(repr(text))} to the guest", why=str(error)
        ) from None


def lines_of(partial: dict[str, bytes], stream: str, data: bytes) -> Iterator[OutputLine]:
    """The lines that *data* completes; *partial* keeps the rest of each stream."""
    *lines, partial[stream] = (partial.get(stream, b"") + data).split(b"\n")
    for line in lines:
        yield OutputLine(line.decode("utf-8", "replace"), stream)


def last_lines(partial: Mapping[str, bytes]) -> Iterator[OutputLine]:
    """The lines that end without a newline."""
    for stream in STREAMS.values():
        if rest := partial.get(stream):
            yield OutputLine(rest.decode("utf-8", "replace"), stream)


def _encoded_environment(env: object) -> dict[bytes, bytes]:
    """The bytes of environment variables; InvalidError if a name is not possible."""
    if not isinstance(env, Mapping):
        raise InvalidError(f"cannot use {env!r} as env", todo="Give a mapping of names to values.")
    found = {
        encoded(name, "a variable's name"): encoded(value, "a variable")
        for name, value in env.items()
    }
    for name in env:
        if not name or "=" in name:
            raise InvalidError(
                f"cannot set the environment variable {name!r}",
                why="a name is not empty and has no '='",
            )
    return found


def _exit_code(done: Done) -> int:
    """The exit code of a request that ended, as ``subprocess`` has it."""
    return -done.code if done.outcome is Outcome.SIGNALED else done.code
