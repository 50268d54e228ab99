"""What goes wrong with processes."""

from __future__ import annotations

import contextlib
import errno
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
from core_infra.process._start_failure import culprit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.process._options import RunOptions

KILL_TIMEOUT = 10.0
"""Seconds after which a killed program counts as one that cannot be killed."""


class ProcessNotFoundError(NotFoundError):
    """No process has this id."""


class ProgramNotFoundError(NotFoundError, FileNotFoundError):
    """The program to start, or the directory to start it in, is not there."""


class CannotStartError(UnavailableError):
    """The program is there, but the system does not start it.

    Attributes:
        errno: what the system answered.
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
    """A program did not end in time and was ended.

    Attributes:
        timeout: the seconds that were allowed.
        command: the command as a list.
        output: what it wrote until then, bytes.
        stdout: what it wrote to standard output, bytes.
        stderr: what it wrote to standard error, bytes.
    """


class CannotKillError(TimeoutExpiredError):
    """Processes still run after they were killed, and are given up.

    Attributes:
        timeout: the seconds that were waited.
        pids: the processes.
    """

    @classmethod
    def of(cls, pids: Sequence[int]) -> Self:
        """Say why it may be."""
        others = [pid for pid in pids if not _may_signal(pid)]
        why = "the kernel has not ended them; such processes wait for a device"
        todo = ""
        if others:
            why = f"{', '.join(map(_named, others))} may not be signalled: another user's (sudo?)"
            todo = "End them as that user, or let them end by themselves: close what they read."
        return cls(
            f"cannot kill the processes {[*pids]}",
            why=why,
            todo=todo,
            timeout=KILL_TIMEOUT,
            pids=[*pids],
        )


class NotReadyError(TimeoutExpiredError):
    """A program did not become ready; says what was waited for and what is there instead.

    Attributes:
        timeout: the seconds that were allowed.
        process: the id of the process.
    """


class ServiceNotInitializedError(WrongStateError):
    """The default service is used before ``init`` or ``set_default``."""


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def _named(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    return str(pid)


def start_error(
    options: RunOptions, cause: OSError, *, in_directory: bool
) -> ProgramNotFoundError | CannotStartError:
    """What to raise when the system refuses to start a program."""
    what = f"cannot start {options.argv()[0]!r}"
    why = cause.strerror or str(cause)
    found = ""
    if in_directory:
        why += f": its directory {os.fspath(options.dir or '.')!r}"
    elif cause.filename is not None and options.log is not None:
        why = f"its log {os.fspath(options.log)!r} cannot be written: {why}"
        return CannotStartError(what, why=why, errno=cause.errno)
    elif found := culprit(options, cause.errno or 0):
        why += f": {found}"
    if cause.errno in (errno.ENOENT, errno.ENOTDIR):
        todo = "" if in_directory or found else "Is it installed, and on the PATH that it is given?"
        return ProgramNotFoundError(what, why=why, todo=todo, errno=cause.errno)
    return CannotStartError(what, why=why, errno=cause.errno)
