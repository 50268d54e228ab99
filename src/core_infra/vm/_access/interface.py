"""The port to a machine's inside: start a command there, feed it, read it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm._guest.command import ExecResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class NoAccessError(UnavailableError):
    """A machine's inside cannot be reached, now or at all."""


class Running(Protocol):
    """A command that runs in a machine; killed at the end of its ``with`` block.

    If its time is up, whatever waits for it raises TimeoutExpiredError, and it is killed.
    """

    @property
    def exit_code(self) -> int | None:
        """Minus the signal's number if one ended it; None until its end is read."""

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it comes, to its end: pairs of "stdout" or "stderr" and bytes."""

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; waits while it does not read."""

    def close_stdin(self) -> None:
        """End its standard input."""

    def wait(self, timeout: float | None = None) -> int:
        """Drop what it still writes and wait for its end; its exit code."""

    def kill(self) -> None:
        """End it, with all that it has started, as far as the guest answers."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class GuestAccess(Protocol):
    """A way into a machine."""

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> Running:
        """Start a command as root, or as who logs in.

        It is ended, with all that it has started, when its time is up, and when this process has
        gone, however that happened.

        Args:
            argv: the command.
            timeout: seconds until it is killed; None lets it take its time.

        Raises:
            NoAccessError: the way is closed.
            CommandFailedError: it could not be started.
        """

    def close(self) -> None:
        """Leave; commands that still run are ended."""


_SHOWN = 2000


def run_to_end(
    access: GuestAccess, argv: Sequence[str], *, timeout: float | None = None
) -> ExecResult:
    """Run a command without input, and keep all its output.

    Args:
        access: the way in.
        argv: the command.
        timeout: seconds after which it is killed; None lets it take its time.

    Raises:
        TimeoutExpiredError: it did not end in time; shows what it wrote last.
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
