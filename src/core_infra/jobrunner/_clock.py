"""Clocks: the real time, and one for tests."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The source of time of a poller; time limits of calls are always real time."""

    def now(self) -> datetime:
        """The current time, UTC."""
        ...

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Wait for an event, at most this long; return whether it is set."""
        ...


class SystemClock:
    """The time of this host."""

    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.now(UTC)

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Wait for an event, at most this long; return whether it is set."""
        return until.wait(seconds)


class FakeClock:
    """A clock that only moves when a test advances it.

    Args:
        start: its first time; by default the first second of 2026.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._changed = threading.Condition()

    def now(self) -> datetime:
        """The current time, UTC."""
        with self._changed:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        with self._changed:
            self._now += timedelta(seconds=seconds)
            self._changed.notify_all()

    def wait(self, until: threading.Event, seconds: float) -> bool:
        """Move the clock forward at once, unless the event is set already."""
        if not until.is_set():
            self.advance(seconds)
        return until.is_set()
