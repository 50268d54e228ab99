"""The states of a process, and the one function that moves it from state to state."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from core_infra.errors import WrongStateError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


class Status(enum.StrEnum):
    """Where in its life a process is."""

    PENDING = "pending"
    """It is to be started, for the first time or again."""
    RUNNING = "running"
    EXITED = "exited"
    """It ended by itself; the exit code says how."""
    FAILED = "failed"
    """It could not be started."""
    KILLED = "killed"
    """A signal ended it, or it ended because it was told to."""


_NEXT: dict[Status, frozenset[Status]] = {
    # Killed while pending: between two runs of one that is restarted.
    Status.PENDING: frozenset({Status.RUNNING, Status.FAILED, Status.KILLED}),
    Status.RUNNING: frozenset({Status.EXITED, Status.KILLED, Status.PENDING}),
    Status.EXITED: frozenset(),
    Status.FAILED: frozenset(),
    Status.KILLED: frozenset(),
}

ENDED = frozenset(status for status, following in _NEXT.items() if not following)
"""The states that a process does not leave."""


def move(found: Status, to: Status) -> Status:
    """The new state, if *found* can become that.

    Raises:
        WrongStateError: it cannot.
    """
    if to in _NEXT[found]:
        return to
    needed = " or ".join(status for status, following in _NEXT.items() if to in following)
    raise WrongStateError(
        f"a process cannot become {to}", why=f"it is {found}", needed=needed, found=str(found)
    )


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a program has used: itself, and those of its children that it waited for.

    Attributes:
        wall: seconds from its start to its end.
        user: seconds of CPU in the program.
        system: seconds of CPU in the kernel for it.
        peak_memory: bytes; the largest resident size that one of these processes had.
    """

    wall: float
    user: float
    system: float
    peak_memory: int


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """A process as it was when asked.

    Attributes:
        id: its name in the service: ``proc-1``, ``proc-2``, ….
        command: the program.
        args: its arguments.
        dir: its working directory.
        started_at: when it was started; None before that.
        status: where in its life it is.
        exit_code: minus the signal's number if a signal ended it; None while it runs.
        duration: seconds since its start, or from there to its end.
        pid: its process id; None before its start.
        restarts: how often it was started again.
        usage: what it used; None while it runs.
    """

    id: str
    command: str
    args: tuple[str, ...]
    dir: Path
    started_at: datetime | None
    status: Status
    exit_code: int | None
    duration: float
    pid: int | None
    restarts: int
    usage: Usage | None
