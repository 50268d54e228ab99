"""An event that a signal handler's exception cannot break."""

from __future__ import annotations

import contextlib
import threading


class Latch:
    """A one-way flag to wait for; like :class:`threading.Event`, but safe against signals.

    An Event takes its lock in Python code. An exception of a signal handler (KeyboardInterrupt) may
    arrive between the acquisition and the block that releases it; then the thread that sets the
    event waits forever. Here each step is one call into C, and what an exception leaves behind is
    harmless.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[threading.Lock] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all threads that wait."""
        self._is_set = True
        while self._waiting:  # a thread that starts to wait later sees that it is set
            with contextlib.suppress(IndexError):  # another thread sets it too
                self._waiting.pop().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set.

        Args:
            timeout: seconds; None waits forever.

        Returns:
            Whether it is set.
        """
        if self._is_set:
            return True
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        if not self._is_set:  # else it may have been set before it knew of our lock
            mine.acquire(timeout=-1 if timeout is None else _possible(timeout))
        with contextlib.suppress(ValueError):
            self._waiting.remove(mine)
        return self._is_set


def _possible(seconds: float) -> float:
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX)
