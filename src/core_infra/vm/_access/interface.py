"""The interface of all ways into a machine: start a command, write its input, read its output."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm._guest.results import ExecResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN = 2000
"""Characters of a command's output in the error of its timeout."""


class NoAccessError(UnavailableError):
    """No command can be run in the machine, now or at all."""


class RunningCommand(Protocol):
    """A command that runs in a machine; it is killed at the end of its ``with`` block.

    At its timeout the command is killed, and the method that waits for it raises
    TimeoutExpiredError.
    """

    @property
    def exit_code(self) -> int | None:
        """The exit code; minus the signal's number if a signal ended it; None until it is known."""

    def is_running(self) -> bool:
        """Whether its end is not known yet."""

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it arrives, to the end: pairs of "stdout" or "stderr" and bytes."""

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; blocks while the command does not read."""

    def close_stdin(self) -> None:
        """Close its standard input."""

    def wait(self, timeout: float | None = None) -> int:
        """Discard further output, wait for the command's end and return its exit code."""

    def kill(self) -> None:
        """End it, with all processes that it has started, if the guest responds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class GuestAccess(Protocol):
    """A way into a machine."""

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> RunningCommand:
        """Start a command as root, or as the user who is logged in.

        The command is ended, with all processes that it has started, at its timeout, and when this
        process ends, even by SIGKILL.

        Args:
            argv: the command.
            timeout: seconds until it is killed; None is no limit.

        Raises:
            NoAccessError: the connection is closed.
            CommandFailedError: the command could not be started.
        """

    def close(self) -> None:
        """Close the connection; commands that still run are ended."""


def run_to_end(
    access: GuestAccess, argv: Sequence[str], *, timeout: float | None = None
) -> ExecResult:
    """Run a command to its end, without input, and return its output.

    Args:
        access: the way into the machine.
        argv: the command.
        timeout: seconds until it is killed; None is no limit.

    Raises:
        TimeoutExpiredError: it did not end in time; shows its last output.
        CoreInfraError: it could not be started.
    """
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    started = time.monotonic()
    try:
        with access.start(argv, timeout=timeout) as process:
            process.close_stdin()
            for stream, data in process.chunks():
                output[stream].append(data)
            code = process.wait()
    except TimeoutExpiredError as error:
        if timeout is None:
            raise
        written = b"".join(output["stdout"] + output["stderr"]).decode("utf-8", "replace")
        raise TimeoutExpiredError(
            f"{shlex.join(argv)!r} did not end within {timeout:g} s in the machine",
            why=f"it wrote:\n{written[-_SHOWN:]}" if written else "it wrote nothing",
            timeout=timeout,
        ) from error
    stdout, stderr = (b"".join(output[name]) for name in ("stdout", "stderr"))
    return ExecResult(list(argv), code, stdout, stderr, time.monotonic() - started)
