"""Whether a source or an action has its turn."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from core_infra.jobrunner.journal.state import Status
from core_infra.jobrunner.ports import as_reconciling

if TYPE_CHECKING:
    from core_infra.jobrunner.journal.state import State
    from core_infra.jobrunner.ports import JobHandler

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LONGEST = 3600.0
"""Seconds between two attempts at most."""


def pause(interval: float, failures: int) -> timedelta:
    """How long to wait after some failures in a row: twice as long each time, up to an hour."""
    return timedelta(seconds=min(interval * 2.0 ** min(failures - 1, 30), _LONGEST))


def is_due(
    state: State, handler: JobHandler, *, now: datetime, interval: float, attempts: int
) -> bool:
    """Tell whether an action that was begun before is to be tried again."""
    if state.status in {Status.PENDING, Status.DONE} or as_reconciling(handler) is None:
        # Of a handler that cannot tell, only what certainly was not begun.
        return state.status is Status.INTERRUPTED
    if state.status is Status.INTERRUPTED:
        return True
    return state.attempt < attempts and now >= state.last + pause(interval, state.attempt)


@dataclasses.dataclass
class Patience:
    """How a source fares.

    Attributes:
        failures: how often it failed in a row.
        not_before: when it may be asked again.
        asked: it has not answered yet.
    """

    failures: int = 0
    not_before: datetime = _LONG_AGO
    asked: bool = False

    def succeeded(self) -> None:
        """It has answered."""
        self.failures = 0

    def failed(self, error: BaseException, *, now: datetime, interval: float) -> None:
        """It has failed; an error with a ``retry_at`` knows when to come back."""
        self.failures += 1
        # The first failure costs no cycle: the next one is a whole interval away anyway.
        wait = pause(interval, self.failures - 1) if self.failures > 1 else timedelta(0)
        self.not_before = now + wait
        retry_at = getattr(error, "retry_at", None)
        # Without a time zone it is not comparable: nobody can tell which moment it is.
        if isinstance(retry_at, datetime) and retry_at.tzinfo is not None:
            self.not_before = max(self.not_before, retry_at)
