"""The states of a process, and what is known of it at one moment."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from core_infra.errors import WrongStateError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


class Status(enum.StrEnum):
    """The state of a process."""

    PENDING = "pending"
    """It is about to be started, for the first time or again."""
    RUNNING = "running"
    EXITED = "exited"
    """It ended by itself, with an exit code."""
    FAILED = "failed"
    """It could not be started."""
    KILLED = "killed"
    """A signal ended it, or it was stopped by us."""


_NEXT: dict[Status, frozenset[Status]] = {
    # Killed while pending: between two runs of a process that is restarted.
    Status.PENDING: frozenset({Status.RUNNING, Status.FAILED, Status.KILLED}),
    Status.RUNNING: frozenset({Status.EXITED, Status.KILLED, Status.PENDING}),
    Status.EXITED: frozenset(),
    Status.FAILED: frozenset(),
    Status.KILLED: frozenset(),
}

ENDED = frozenset(status for status, following in _NEXT.items() if not following)
"""The final states."""


def move(found: Status, to: Status) -> Status:
    """Return the new state *to*, if it may follow *found*.

    Raises:
        WrongStateError: it may not.
    """
    if to in _NEXT[found]:
        return to
    needed = " or ".join(status for status, following in _NEXT.items() if to in following)
    raise WrongStateError(
        f"a process cannot become {to}", why=f"it is {found}", needed=needed, found=str(found)
    )


@dataclasses.dataclass(frozen=True)
class Usage:
    """The resources that a program has used: itself, and its children that it waited for.

    Attributes:
        wall: seconds from its start to its end.
        user: seconds of CPU in the program.
        system: seconds of CPU in the kernel for it.
        peak_memory: bytes; the largest resident size of one of these processes.
    """

    wall: float
    user: float
    system: float
    peak_memory: int


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """A snapshot of what is known of a process.

    Attributes:
        id: its name in the service: ``proc-1``, ``proc-2``, ….
        command: the program.
        args: its arguments.
        dir: its working directory.
        started_at: when it was started; None before that.
        status: its state.
        exit_code: minus the signal's number if a signal ended it; None while it runs.
        duration: seconds since its start, or from its start to its end.
        pid: its process id; None before its start.
        restarts: how often it was restarted.
        usage: the resources that it used; None while it runs.
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
