"""What goes wrong with processes."""

from __future__ import annotations

import errno
import os

from core_infra.errors import (
    CommandFailedError,
    NotFoundError,
    TimeoutExpiredError,
    UnavailableError,
    WrongStateError,
)


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


class NotReadyError(TimeoutExpiredError):
    """A program did not become ready; says what was waited for and what is there instead.

    Attributes:
        timeout: the seconds that were allowed.
        process: the id of the process.
    """


class ServiceNotInitializedError(WrongStateError):
    """The default service is used before ``init`` or ``set_default``."""


def start_error(
    command: str, directory: str | os.PathLike[str] | None, cause: OSError
) -> ProgramNotFoundError | CannotStartError:
    """What to raise when the system refuses to start *command* with *cause*."""
    if directory is not None and cause.filename == os.fspath(directory):
        why = f"{cause.strerror}: its directory {os.fspath(directory)!r}"
    else:
        why = cause.strerror or str(cause)
    what = f"cannot start {command!r}"
    if cause.errno in (errno.ENOENT, errno.ENOTDIR):
        todo = "Is it installed, and on the PATH that it is given?"
        return ProgramNotFoundError(what, why=why, todo=todo, errno=cause.errno)
    return CannotStartError(what, why=why, errno=cause.errno)
