"""How far an action has come, as the index tells it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Status(enum.IntEnum):
    """How far an action has come."""

    PENDING = 0
    """Begun; no result is recorded."""
    DONE = 1
    FAILED = 2
    UNKNOWN = 3
    """Begun, and nobody can tell whether it was done."""
    INTERRUPTED = 4
    """Begun, interrupted, and not done."""


class State(NamedTuple):
    """What is known of an action.

    Attributes:
        id: of the action.
        status: how far it has come.
        action: the name of the handler.
        attempt: how often it was tried.
        first: when it was first tried.
        last: when something was last recorded of it.
        signal: what it was taken on; only while it is pending.
    """

    id: str
    status: Status
    action: str
    attempt: int
    first: datetime
    last: datetime
    signal: Mapping[str, object] | None
