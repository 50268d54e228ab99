"""The results of commands in a guest, and how they are shown."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from core_infra._unpatched import signal
from core_infra.errors import CommandFailedError, TimeoutExpiredError
from core_infra.vm._guest.protocol import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._guest.protocol import Done

SHELL = ["/bin/sh", "-c"]
"""The shell that runs a command given as a string."""

_SHOWN = 2000
_BRIEF = 400
_LONGEST = 4000  # characters of a command in a message: an argument can have megabytes


class GuestOperationError(CommandFailedError):
    """The guest could not start a program, or could not open, read or write a file.

    Attributes:
        errno: the guest's error number.
    """


class GuestCommandError(CommandFailedError):
    """A command in the guest ended with an exit code other than 0, and ``check`` was set."""


class GuestCommandTimeoutError(TimeoutExpiredError):
    """A command in the guest did not end in time and was killed.

    Attributes:
        command: the command as a list.
        stdout: what it had written to standard output, bytes.
        stderr: what it had written to standard error, bytes.
    """


@dataclass(frozen=True, repr=False)
class ExecResult:
    """The result of a command.

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
        # pytest shows this where an assertion failed, and cuts the middle out of long texts.
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
                f"command failed in the guest: {joined(self.command)}",
                why=f"{describe_exit(self.exit_code)}{shown_output(self)}",
                command=self.command,
                exit_code=self.exit_code,
                stdout=self.stdout_bytes,
                stderr=self.stderr_bytes,
            )
        return self


@dataclass(frozen=True, repr=False)
class WaitResult(ExecResult):
    """The result of a call that waits, in a machine's history: all its attempts are one step.

    It is the last attempt's result, with more facts:

    Attributes:
        goal: the condition, in words.
        reached: whether it was met.
        attempts: how often it was checked.
        waited: seconds from the first attempt to the end of the last.
        seen: what was there instead, in words; empty if the condition was met.
    """

    goal: str
    reached: bool
    attempts: int
    waited: float
    seen: str


def shown_command(command: Sequence[str]) -> str:
    """A command as a person would type it; a line for the guest's shell is shown as it is."""
    is_line = list(command[:2]) == SHELL and len(command) == len(SHELL) + 1
    return shortened(command[2]) if is_line else joined(command)


def joined(command: Sequence[str]) -> str:
    """A command, with the guest's shell, as a line for a shell."""
    return shortened(shlex.join(command))


def shortened(text: str) -> str:
    """A text for a message; the middle of a long one is left out."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def shown_call(command: Sequence[str], cwd: str = "", user: str = "") -> str:
    """A command as a person would type it, with the directory and the user, if they were given."""
    place = [f"in {cwd}"] if cwd else []
    place += [f"as {user}"] if user else []
    return shown_command(command) + (f"  # {' '.join(place)}" if place else "")


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
    """The end of a command's output, labelled and indented for a message."""
    parts = []
    for label, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            cut = "… " if len(text) > _SHOWN else ""
            lines = (cut + text[-_SHOWN:]).rstrip("\n").splitlines()
            parts.append("".join(f"\n  {label} | {harmless(line)}" for line in lines))
    return "".join(parts)


def harmless(line: str) -> str:
    """A line without control characters, which would act on the reader's terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else f"\\x{ord(char):02x}" for char in line
    )


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


def unfinished(error: GuestCommandTimeoutError, limit: float) -> ExecResult:
    """The result of a command that was killed because its time was up."""
    return ExecResult(error.command, -signal.SIGKILL, error.stdout, error.stderr, limit)


def raise_failure(done: Done, what: str) -> None:
    """Raise GuestOperationError if the agent could not do *what* at all."""
    if done.outcome is Outcome.FAILED:
        raise GuestOperationError(
            f"{what}: {done.message}" if done.message else what, errno=done.code
        )
