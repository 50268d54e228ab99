"""Commands in a guest: what one is given, how it is followed, and what comes of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self

from core_infra._unpatched import os, signal, time
from core_infra.errors import CommandFailedError, InvalidError, TimeoutExpiredError
from core_infra.vm._guest.channel import STDERR, STDOUT
from core_infra.vm._guest.client import raise_failure
from core_infra.vm._guest.protocol import Done, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._guest.channel import Channel


STREAMS = {STDOUT: "stdout", STDERR: "stderr"}
_SHELL = ["/bin/sh", "-c"]
_SHOWN = 2000
_BRIEF = 400


class GuestCommandError(CommandFailedError):
    """A command in the guest ended with an exit code other than 0, and ``check`` was asked for."""


class GuestCommandTimeoutError(TimeoutExpiredError):
    """A command in the guest did not end in time and was killed.

    Attributes:
        command: the command as a list.
        stdout: what it had written to standard output, bytes.
        stderr: what it had written to standard error, bytes.
    """


@dataclass(frozen=True, repr=False)
class ExecResult:
    """What came of a command.

    Attributes:
        command: the command as a list of arguments; a string was run by ``/bin/sh -c``.
        exit_code: its exit code, or minus the signal's number if a signal ended it.
        stdout_bytes: exactly what it wrote to standard output.
        stderr_bytes: exactly what it wrote to standard error.
        duration: seconds it ran, as the guest measured.
    """

    command: list[str]
    exit_code: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    duration: float

    @property
    def stdout(self) -> str:
        """Standard output as text (UTF-8; bytes that are not are shown as U+FFFD)."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text (UTF-8; bytes that are not are shown as U+FFFD)."""
        return self.stderr_bytes.decode("utf-8", "replace")

    def __repr__(self) -> str:
        # What pytest shows where an assertion failed; it cuts the middle out of what is long.
        facts = {
            "command": _brief(shown_command(self.command)),
            "exit_code": self.exit_code,
            "duration": round(self.duration, 3),
            "stdout": _brief(self.stdout),
            "stderr": _brief(self.stderr),
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in facts.items())})"

    def check(self) -> ExecResult:
        """Return self, or raise GuestCommandError if the exit code is not 0."""
        if self.exit_code != 0:
            raise GuestCommandError(
                f"command failed in the guest: {shlex.join(self.command)}",
                why=f"{describe_exit(self.exit_code)}{shown_output(self)}",
                command=self.command,
                exit_code=self.exit_code,
                stdout=self.stdout_bytes,
                stderr=self.stderr_bytes,
            )
        return self


@dataclass(frozen=True, repr=False)
class WaitResult(ExecResult):
    """What came of a call that waits, in a machine's history: all its attempts are one step.

    It is the last attempt's result, and beyond that:

    Attributes:
        goal: what was waited for, in words.
        reached: whether that came.
        attempts: how often it was looked for.
        waited: seconds from the first attempt to the end of the last.
        seen: what there was instead, in words; empty if it came.
    """

    goal: str
    reached: bool
    attempts: int
    waited: float
    seen: str


def shown_command(command: Sequence[str]) -> str:
    """A command as a person would type it: what the guest's shell was given is shown as it is."""
    is_line = list(command[:2]) == _SHELL and len(command) == len(_SHELL) + 1
    return command[2] if is_line else shlex.join(command)


def _brief(text: str) -> str:
    return f"…{text[-_BRIEF:]}" if len(text) > _BRIEF else text


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def shown_output(result: ExecResult) -> str:
    """The last of a command's output, labelled and indented for a message."""
    parts = []
    for label, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            cut = "… " if len(text) > _SHOWN else ""
            lines = (cut + text[-_SHOWN:]).rstrip("\n").splitlines()
            parts.append("".join(f"\n  {label} | {_harmless(line)}" for line in lines))
    return "".join(parts)


def _harmless(line: str) -> str:
    """A line without what would steer the reader's terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else f"\\x{ord(char):02x}" for char in line
    )


def as_argv(command: str | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The command as arguments: a string is a line for the guest's shell, a sequence is as is."""
    if isinstance(command, str):
        return [*_SHELL, command]
    try:
        argv = [os.fspath(part) for part in command]
    except TypeError as error:
        raise InvalidError(
            f"cannot run {command!r}",
            why=str(error),
            todo="Give a line for the shell, or a list of texts and paths.",
        ) from None
    if not argv:
        raise InvalidError("cannot run an empty command", todo="Give at least a program's name.")
    return argv


def encoded(text: str, what: str) -> bytes:
    """The bytes of what goes to a program; InvalidError if the system cannot pass them."""
    if not isinstance(text, str):
        raise InvalidError(f"cannot pass {text!r} to the guest", why=f"{what} must be a text")
    if "\0" in text:
        raise InvalidError(
            f"cannot pass {text!r} to the guest",
            why=f"{what} cannot hold a NUL character",
            todo="Pass such data through standard input or a file.",
        )
    try:
        return os.fsencode(text)
    except UnicodeEncodeError as error:
        raise InvalidError(f"cannot pass {text!r} to the guest", why=str(error)) from None


def encoded_environment(env: object) -> dict[bytes, bytes]:
    """The bytes of environment variables; InvalidError if one has no possible name."""
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


class OutputLine(str):
    """A line of output, without its newline: a str that knows its stream.

    Attributes:
        stream: "stdout" or "stderr".
    """

    __slots__ = ("stream",)
    stream: str

    def __new__(cls, text: str, stream: str) -> Self:
        """A line that came on *stream*."""
        line = super().__new__(cls, text)
        line.stream = stream
        return line


class GuestProcess:
    """A command that runs in the guest; made by ``Machine.stream``.

    Iterate over it for its lines as they come, stdout's and stderr's in the order of arrival. As
    a context manager it kills the command at the end of the block if it still runs.

    Attributes:
        command: the command as a list of arguments.
        deadline: when it is killed, on ``time.monotonic``; None: never.
        channel: what its input and output go through.
    """

    def __init__(self, command: list[str], channel: Channel, timeout: float | None) -> None:
        self.command = command
        self.channel = channel
        self._timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._done: Done | None = None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it; None until that is read."""
        return None if self._done is None else exit_code(self._done)

    @property
    def duration(self) -> float | None:
        """Seconds it ran, as the guest measured; None until its end is read."""
        return None if self._done is None else self._done.duration_ns / 1e9

    def is_running(self) -> bool:
        """Whether its end has not been seen yet."""
        return self._done is None and not self.channel.ended

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it comes: pairs of stream ("stdout", "stderr") and bytes.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
        """
        while self._done is None:
            try:
                chunks = self.channel.read(self.deadline)
            except TimeoutExpiredError:
                self.give_up(b"", b"")
            for stream, data in chunks:
                yield STREAMS[stream], data
            if not chunks:
                self._end()

    def __iter__(self) -> Iterator[OutputLine]:
        partial = {"stdout": b"", "stderr": b""}
        for stream, data in self.chunks():
            *lines, partial[stream] = (partial[stream] + data).split(b"\n")
            for line in lines:
                yield OutputLine(line.decode("utf-8", "replace"), stream)
        for stream, rest in partial.items():
            if rest:
                yield OutputLine(rest.decode("utf-8", "replace"), stream)

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; waits while it does not read."""
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise InvalidError(f"cannot write {data!r} to a command", todo="Give text or bytes.")
        self.channel.write(data.encode() if isinstance(data, str) else data, self.deadline)

    def close_stdin(self) -> None:
        """End its standard input."""
        self.channel.close_input()

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it started in its process group."""
        self.channel.signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the command and what it started in its process group."""
        self.signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Drop what it still writes and wait for its end; its exit code.

        Raises:
            TimeoutExpiredError: it still runs after *timeout* seconds.
        """
        if self._done is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            self.channel.result(deadline)
            self._end()
        assert self._done is not None  # noqa: S101 - set by _end
        return exit_code(self._done)

    def collect(self) -> ExecResult:
        """Read it to its end; its whole output and its exit code.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
        """
        output: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        try:
            while chunks := self.channel.read(self.deadline):
                for stream, data in chunks:
                    output[stream].append(data)
        except TimeoutExpiredError:
            self.give_up(b"".join(output[STDOUT]), b"".join(output[STDERR]))
        return self.result(b"".join(output[STDOUT]), b"".join(output[STDERR]))

    def result(self, stdout: bytes, stderr: bytes) -> ExecResult:
        """What came of it, given its output, which was read to the end."""
        done = self._end()
        code, seconds = exit_code(done), done.duration_ns / 1e9
        return ExecResult(self.command, code, stdout, stderr, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill it if it still runs; what it still writes is dropped."""
        if self.is_running():
            self.kill()
        self.channel.abandon()

    def _end(self) -> Done:
        if self._done is None:
            done = self.channel.result()
            raise_failure(done, f"cannot run {shlex.join(self.command)!r} in the guest")
            self._done = done
        return self._done

    def give_up(self, stdout: bytes, stderr: bytes) -> NoReturn:
        """Kill it, as its time is up, and raise GuestCommandTimeoutError with its output so far."""
        self.kill()
        self.channel.abandon()
        partial = ExecResult(self.command, -signal.SIGKILL, stdout, stderr, 0.0)
        assert self._timeout is not None  # noqa: S101 - else nothing had run out
        raise GuestCommandTimeoutError(
            f"command did not end within {self._timeout:g} s: {shlex.join(self.command)}",
            why=f"it was killed{shown_output(partial)}",
            todo="Give it a longer timeout=…, or set CORE_INFRA_TIMEOUT_FACTOR on a slow host.",
            command=self.command,
            timeout=self._timeout,
            stdout=stdout,
            stderr=stderr,
        ) from None


def unfinished(error: GuestCommandTimeoutError, limit: float) -> ExecResult:
    """The result of a command that was killed because its time was up."""
    return ExecResult(error.command, -signal.SIGKILL, error.stdout, error.stderr, limit)


def exit_code(done: Done) -> int:
    """The exit code of a request that ended, as ``subprocess`` would tell it."""
    return -done.code if done.outcome is Outcome.SIGNALED else done.code
