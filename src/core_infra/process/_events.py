"""The events of processes on the bus; those of one process come in the order of these classes."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Stream(enum.StrEnum):
    """An output stream of a program."""

    STDOUT = "stdout"
    """Standard output; also all output of a process with merged streams or on a pty."""
    STDERR = "stderr"


class ActionProcessStarted(NamedTuple):
    """A process has started; sent again for each restart.

    Attributes:
        id: the process.
        command: its program.
        args: the program's arguments.
        dir: its working directory; empty for that of this process.
        pid: its process id.
    """

    id: str
    command: str
    args: tuple[str, ...]
    dir: str
    pid: int


class ActionProcessOutput(NamedTuple):
    r"""A line of output.

    Attributes:
        id: the process.
        line: the line without its end (``\n`` or ``\r\n``); bytes that are not UTF-8 become
            U+FFFD.
        stream: the stream that it was written to.
        partial: the line continues in the next event: it is longer than the limit of 4 MiB.
    """

    id: str
    line: str
    stream: Stream
    partial: bool = False


class ActionProcessKilled(NamedTuple):
    """A process ended by a signal, or because it was stopped; the Exited event follows.

    Attributes:
        id: the process.
        signal: the signal's number; the last one that was sent, if it ended with an exit code.
    """

    id: str
    signal: int


class ActionProcessExited(NamedTuple):
    """A process is over: all its output has been published. The only event if it never started.

    Attributes:
        id: the process.
        exit_code: minus the signal's number if a signal ended it; None if it never started.
        duration: seconds that it ran.
        error: why it could not be started, or what went wrong; None after a normal end.
    """

    id: str
    exit_code: int | None
    duration: float
    error: Exception | None = None
