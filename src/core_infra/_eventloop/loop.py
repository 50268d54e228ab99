"""Waits for many descriptors at once, and calls who is concerned."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from core_infra._unpatched import os, select, time

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.latch import Latch

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_LONGEST = 3600.0
"""Seconds that one turn waits at most: the system knows no time beyond some weeks."""
_FAILED = select.EPOLLERR | select.EPOLLHUP  # the kernel reports these unasked

_log = logging.getLogger(__name__)


class Loop:
    """Descriptors that one thread waits for: its maker's, unless a subclass says otherwise.

    What is called on that thread must not block: it would hold up all that the loop attends to.
    Any thread may watch, unwatch, post and wake.

    Args:
        poller: knows no descriptor yet.
        wake: an event's descriptor, from :func:`new_wake`.
    """

    def __init__(self, poller: select.epoll | select.poll, wake: int) -> None:
        self._thread = threading.get_ident()
        self._poller = poller
        self._wake = wake
        poller.register(wake, READ)
        self._watched: dict[int, tuple[Callable[[int], None], int]] = {}
        self._jobs: deque[Callable[[], None]] = deque()

    def is_current(self) -> bool:
        """Whether the caller is on the thread that runs the loop."""
        return threading.get_ident() == self._thread

    def post(self, job: Callable[[], None]) -> None:
        """Run *job* on the loop's thread soon; does not wait for it."""
        self._jobs.append(job)
        self.wake()

    def wake(self) -> None:
        """End the turn that waits, if there is one; from any thread."""
        if threading.get_ident() != self._thread:
            os.eventfd_write(self._wake, 1)

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the loop's thread whenever *fd* is ready.

        Watching a descriptor again replaces its events. What is called must bear a false alarm: if
        another callback of the same turn has closed a descriptor and somebody got its number
        again, the new one hears of the old one's event.

        Args:
            fd: a descriptor that does not block.
            events: READ, WRITE or both; 0 for an error or a hang-up only. These are always
                reported, as what was asked for.
            on_ready: is given READ, WRITE or both.
        """
        is_known = fd in self._watched
        self._watched[fd] = (on_ready, events)
        if is_known:
            with contextlib.suppress(FileNotFoundError):  # who watched it was interrupted just here
                self._poller.modify(fd, events)
                return
        self._poller.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before the descriptor is closed; nothing if it is not watched."""
        if self._watched.pop(fd, None) is not None:
            try:  # noqa: SIM105 - suppress() would take longer than all the rest
                self._poller.unregister(fd)
            except (KeyError, FileNotFoundError):
                pass  # as above

    def wait(self, event: Latch, timeout: float | None = None) -> bool:
        """Wait for *event*; on the loop's own thread, by running the loop meanwhile.

        Args:
            event: set by what the loop calls.
            timeout: seconds; None waits for ever.
        """
        if not self.is_current():
            return event.wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not event.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self.turn(left)
        return True

    def turn(self, timeout: float | None = None) -> None:
        """Wait until something is ready, and call all whom that concerns; on the loop's thread."""
        if self._jobs:
            timeout = 0
        elif timeout is not None:
            timeout = min(timeout, _LONGEST)
        for fd, events in self._poll(timeout):
            callback, asked_for = self._watched.get(fd, (None, 0))
            if callback is not None:
                self._call(fd, callback, asked_for if events & _FAILED else events)
            elif fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
            # else an earlier callback of this turn has unwatched it
        while self._jobs:
            guarded(self._jobs.popleft())

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        raise NotImplementedError

    def _call(self, fd: int, callback: Callable[[int], None], events: int) -> None:
        try:
            callback(events)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # One broken callback must not take down the thread that serves all others.
            _log.exception("callback for descriptor %d failed", fd)
            self.unwatch(fd)


def new_wake() -> int:
    """What :meth:`Loop.wake` writes to."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def guarded(job: Callable[[], None]) -> None:
    """Run a job that nobody waits for; what it raises is logged."""
    try:
        job()
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("a job failed")
