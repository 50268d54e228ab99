"""An event that no signal can break."""

from __future__ import annotations

import contextlib
import threading


class Latch:
    """Set once; like :class:`threading.Event`, for waits that the exception of a signal may end.

    An Event takes its lock by code in Python. An exception (KeyboardInterrupt) may hit between its
    being taken and the block that gives it back, and whoever sets the event then waits for ever.
    Here each step is one call into C, and what an exception leaves behind does no harm.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[threading.Lock] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Let go all who wait, and all who will."""
        self._is_set = True
        while self._waiting:  # who comes to it later sees that it is set
            with contextlib.suppress(IndexError):  # another thread sets it too
                self._waiting.pop().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; whether it is.

        Args:
            timeout: seconds; None waits for ever.
        """
        if self._is_set:
            return True
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        if not self._is_set:  # else it may have been set before we were known
            mine.acquire(timeout=-1 if timeout is None else _possible(timeout))
        with contextlib.suppress(ValueError):
            self._waiting.remove(mine)
        return self._is_set


def _possible(seconds: float) -> float:
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX)
