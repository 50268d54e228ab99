"""One thread that moves the bytes of all children, hears of their ends, and keeps their deadlines.

A thread per stream or per child does not scale, and polling costs either latency or CPU. Here one
epoll waits for everything at once, and a heap of deadlines says for how long at most.

What runs on this thread must not block: it would hold up everybody's children. Users' own code
(the handlers of events) never runs on it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_FAILED = select.EPOLLERR | select.EPOLLHUP  # the kernel reports these unasked
_TIDY = 256  # timers, after which the cancelled ones, of commands that were in time, are forgotten

_log = logging.getLogger(__name__)


class Timer:
    """A job for later, on the supervisor's thread."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job: Callable[[], None] | None = job

    def cancel(self) -> None:
        """Do not run it; nothing if it has run."""
        self._job = None

    def is_pending(self) -> bool:
        """Whether it was neither cancelled nor run."""
        return self._job is not None

    def fire(self) -> None:
        """Run it, once."""
        job, self._job = self._job, None
        if job is not None:
            job()


class Supervisor:
    """The thread and its epoll; use :func:`supervisor` for the one of this process."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[int], None], int]] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_lock = threading.Lock()
        self._tidy_at = _TIDY
        self._numbers = itertools.count()  # timers of the same moment run in their order
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wake, READ, self._run_jobs)
        self._thread = threading.Thread(target=self._run, name="core-infra-supervisor", daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """Whether the caller is on the supervisor's thread, where it must not block."""
        return threading.current_thread() is self._thread

    def call(self, job: Callable[[], T]) -> T:
        """Run *job* on the supervisor's thread and return its result; it must not block."""
        if self.is_current():
            return job()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                future.set_exception(error)

        self.post(run)
        return future.result()

    def post(self, job: Callable[[], None]) -> None:
        """Run *job* on the supervisor's thread soon; does not wait for it."""
        self._jobs.append(job)
        os.eventfd_write(self._wake, 1)

    def after(self, seconds: float, job: Callable[[], None]) -> Timer:
        """Run *job* on the supervisor's thread in so many seconds."""
        timer = Timer(job)
        entry = (time.monotonic() + seconds, next(self._numbers), timer)
        with self._timer_lock:
            if len(self._timers) >= self._tidy_at:
                self._timers = [old for old in self._timers if old[2].is_pending()]
                heapq.heapify(self._timers)
                self._tidy_at = max(_TIDY, 2 * len(self._timers))
            heapq.heappush(self._timers, entry)
            is_next = self._timers[0] is entry
        if is_next and not self.is_current():
            os.eventfd_write(self._wake, 1)
        return timer

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the supervisor's thread whenever *fd* is ready.

        Any thread may call this. Watching a descriptor again replaces its events. What is called
        must bear a false alarm: if another callback of the same round has closed a descriptor and
        somebody got its number again, the new one hears of the old one's event.

        Args:
            fd: a descriptor that does not block.
            events: READ, WRITE or both. An error or a hang-up is reported as what was asked for.
            on_ready: is given READ, WRITE or both.
        """
        is_known = fd in self._watched
        self._watched[fd] = (on_ready, events)
        if is_known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before the descriptor is closed; nothing if it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _run(self) -> None:
        while True:
            for fd, events in self._epoll.poll(self._run_timers()):
                callback, asked_for = self._watched.get(fd, (None, 0))
                if callback is None:
                    continue  # an earlier callback of this round has unwatched it
                try:
                    callback(asked_for if events & _FAILED else events)
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # One broken callback must not take down the thread that serves all others.
                    _log.exception("callback for descriptor %d failed", fd)
                    self.unwatch(fd)

    def _run_timers(self) -> float | None:
        """Run what is due; seconds until the next, None if there is none."""
        while True:
            with self._timer_lock:
                if not self._timers:
                    return None
                wait = self._timers[0][0] - time.monotonic()
                if wait > 0:
                    return wait
                timer = heapq.heappop(self._timers)[2]
            _guarded(timer.fire)

    def _run_jobs(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._jobs:
            _guarded(self._jobs.popleft())


def _guarded(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("supervisor job failed")


_current: Supervisor | None = None
_lock = threading.Lock()


def supervisor() -> Supervisor:
    """The supervisor of this process, started at first use."""
    global _current  # noqa: PLW0603 - one per process is the point
    found = _current
    if found is None:
        with _lock:
            found = _current = _current or Supervisor()
    return found


def _forget() -> None:
    global _current, _lock  # noqa: PLW0603 - a forked child has no supervisor thread
    _current = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
