"""The errors of processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from core_infra.errors import (
    CommandFailedError,
    NotFoundError,
    TimeoutExpiredError,
    UnavailableError,
    WrongStateError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


KILL_TIMEOUT = 10.0
"""Seconds after which a process that was killed and still runs is an error."""


class ProcessNotFoundError(NotFoundError):
    """No process has this id."""


class ProgramNotFoundError(NotFoundError, FileNotFoundError):
    """The program to start, or the directory to start it in, does not exist."""


class CannotStartError(UnavailableError):
    """The program exists, but the system does not start it.

    Attributes:
        errno: the error number of the system.
    """


class RunFailedError(CommandFailedError):
    """A program ran and failed.

    Attributes:
        command: the command as a list.
        exit_code: its exit code; minus the signal's number if a signal ended it.
        output: what it wrote, stdout and stderr in the order of arrival, bytes.
        stdout: what it wrote to standard output, bytes.
        stderr: what it wrote to standard error, bytes.
    """


class RunTimeoutError(TimeoutExpiredError):
    """A program did not end in time and was stopped.

    Attributes:
        timeout: the seconds that were allowed.
        command: the command as a list.
        output: what it wrote until then, bytes.
        stdout: what it wrote to standard output, bytes.
        stderr: what it wrote to standard error, bytes.
    """


class CannotKillError(TimeoutExpiredError):
    """Processes still run although they were killed; they are left running.

    Attributes:
        timeout: the seconds that were waited.
        pids: the processes.
    """

    @classmethod
    def of(cls, pids: Sequence[int]) -> Self:
        """Make the error for *pids*, with the likely reason."""
        others = [pid for pid in pids if not _may_signal(pid)]
        why = "the kernel has not ended them; such processes wait for a device"
        todo = ""
        if others:
            names = ", ".join(map(_describe, others))
            why = f"{names} may not be signalled: another user's (sudo?)"
            todo = "End them as that user, or let them end by themselves: close what they read."
        return cls(
            f"cannot kill the processes {[*pids]}",
            why=why,
            todo=todo,
            timeout=KILL_TIMEOUT,
            pids=[*pids],
        )


class NotReadyError(TimeoutExpiredError):
    """A program did not become ready; the message has what was missing and what was found instead.

    Attributes:
        timeout: the seconds that were allowed.
        process: the id of the process.
    """


class ServiceNotInitializedError(WrongStateError):
    """The default service was used before ``init`` or ``set_default``."""


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    return str(pid)
