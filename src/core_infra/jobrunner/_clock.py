"""Time, so that tests can have their own."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the poller knows of time, besides how long a call may take."""

    def now(self) -> datetime:
        """The present moment, UTC."""
        ...

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Wait for an event, at most this long; tell whether it has happened."""
        ...


class SystemClock:
    """The time of this host."""

    def now(self) -> datetime:
        """The present moment, UTC."""
        return datetime.now(UTC)

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Wait for an event, at most this long; tell whether it has happened."""
        return until.wait(seconds)


class FakeClock:
    """A time that goes on only when it is told to.

    Args:
        start: where it begins; by default the first second of 2026.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._changed = threading.Condition()

    def now(self) -> datetime:
        """The present moment."""
        with self._changed:
            return self._now

    def advance(self, seconds: float) -> None:
        """Let time go on."""
        with self._changed:
            self._now += timedelta(seconds=seconds)
            self._changed.notify_all()

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Let the time pass at once, unless the event has happened already."""
        if not until.is_set():
            self.advance(seconds)
        return until.is_set()
