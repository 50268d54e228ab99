"""The states of a process, and the one function that moves it from state to state."""

from __future__ import annotations

import enum

from core_infra.errors import WrongStateError


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
