"""An event loop: waits for many descriptors at once and calls a callback for each that is ready."""

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
_MAX_WAIT = 3600.0
"""Seconds that one turn waits at most: the system calls take no timeout beyond some weeks."""
_FAILED = select.EPOLLERR | select.EPOLLHUP  # the kernel reports these unasked

_log = logging.getLogger(__name__)


class Loop:
    """An event loop that runs on one thread: the creator's, unless a subclass says otherwise.

    Callbacks must not block: that would delay everything else that the loop serves. ``watch``,
    ``unwatch``, ``post`` and ``wake`` may be called on any thread.

    Args:
        poller: has no descriptor registered yet.
        wake: the descriptor of an event, from :func:`new_wake`.
    """

    def __init__(self, poller: select.epoll | select.poll, wake: int) -> None:
        self._thread = threading.get_ident()
        self._poller = poller
        self._wake = wake
        poller.register(wake, READ)
        self._watched: dict[int, tuple[Callable[[int], None], int, int]] = {}
        self._turn = 0
        self._jobs: deque[Callable[[], None]] = deque()

    def is_current(self) -> bool:
        """Whether the caller is on the thread that runs the loop."""
        return threading.get_ident() == self._thread

    def post(self, job: Callable[[], None]) -> None:
        """Run *job* on the loop's thread soon; does not wait for it."""
        self._jobs.append(job)
        self.wake()

    def wake(self) -> None:
        """End the current wait of the loop, if there is one; on any thread."""
        if threading.get_ident() != self._thread:
            os.eventfd_write(self._wake, 1)

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the loop's thread whenever *fd* is ready.

        Watching a descriptor again replaces its events.

        Args:
            fd: a non-blocking descriptor.
            events: READ, WRITE or both; 0 for an error or a hang-up only. These two are always
                reported, as the events that were asked for.
            on_ready: receives READ, WRITE or both.
        """
        is_known = fd in self._watched
        self._watched[fd] = (on_ready, events, self._turn)
        if is_known:
            # Not registered: an earlier watch() was interrupted by a signal just before that.
            with contextlib.suppress(FileNotFoundError):
                self._poller.modify(fd, events)
                return
        self._poller.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching *fd*, before it is closed; does nothing if it is not watched."""
        if self._watched.pop(fd, None) is not None:
            try:  # noqa: SIM105 - suppress() would take longer than all the rest
                self._poller.unregister(fd)
            except (KeyError, FileNotFoundError):
                pass  # as above

    def wait(self, event: Latch, timeout: float | None = None) -> bool:
        """Wait for *event*; on the loop's own thread, run the loop meanwhile.

        Args:
            event: set by a callback of the loop.
            timeout: seconds; None waits forever.

        Returns:
            Whether the event is set.
        """
        if not self.is_current():
            return event.wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not event.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self.run_once(left)
        return True

    def run_once(self, timeout: float | None = None) -> None:
        """Wait until something is ready, and run all callbacks that are due; on the loop's thread.

        Args:
            timeout: seconds; None waits forever.
        """
        if self._jobs:
            timeout = 0
        elif timeout is not None:
            timeout = min(timeout, _MAX_WAIT)
        self._turn = turn = self._turn + 1
        for fd, events in self._poll(timeout):
            callback, requested, since = self._watched.get(fd, (None, 0, 0))
            if callback is not None:
                # Watched since this turn began, the event may be that of an older descriptor with
                # this number, which a callback has closed. The next turn reports a true one again.
                if since < turn:
                    self._call(fd, callback, requested if events & _FAILED else events)
            elif fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
            # else an earlier callback of this turn has unwatched it
        while self._jobs:
            run_logged(self._jobs.popleft())

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        raise NotImplementedError

    def _call(self, fd: int, callback: Callable[[int], None], events: int) -> None:
        try:
            callback(events)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # One broken callback must not take down the thread that serves all others.
            _log.exception("the callback for descriptor %d failed", fd)
            self.unwatch(fd)


def new_wake() -> int:
    """Create the descriptor that :meth:`Loop.wake` writes to."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def run_logged(job: Callable[[], None]) -> None:
    """Run a job that nobody waits for; an exception is logged."""
    try:
        job()
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("a job of the event loop failed")
