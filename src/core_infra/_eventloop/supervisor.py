"""One thread that moves the bytes of all children, hears of their ends, and keeps their deadlines.

A thread per stream or per child does not scale, and polling costs either latency or CPU. Here one
epoll waits for everything at once, and a heap of deadlines says for how long at most.

What runs on this thread must not block: it would hold up everybody's children. Users' own code
(the handlers of events) never runs on it.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.loop import READ, WRITE, Loop, guarded, new_wake
from core_infra._unpatched import os, select, time
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["READ", "WRITE", "Supervisor", "Timer", "require_real_threads", "supervisor"]

T = TypeVar("T")

_EVENTS = 64  # in one turn, at most; what is left comes in the next
_TIDY = 256  # timers, after which the cancelled ones, of commands that were in time, are forgotten


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


_Entry: TypeAlias = tuple[float, int, Timer]
"""When it is due, by the monotonic clock; its number; the timer."""


class Supervisor(Loop):
    """A loop with a thread of its own; use :func:`supervisor` for the one of this process."""

    def __init__(self) -> None:
        require_real_threads()
        self._epoll = select.epoll()
        super().__init__(self._epoll, new_wake())
        self._timers: list[_Entry] = []
        self._new_timers: deque[_Entry] = deque()  # from all threads, without a lock
        self._next_due = math.inf
        self._tidy_at = _TIDY
        self._numbers = itertools.count()  # timers of the same moment run in their order
        started = Latch()
        thread = threading.Thread(
            target=self._run, args=(started,), name="core-infra-supervisor", daemon=True
        )
        thread.start()
        started.wait()

    def call(self, job: Callable[[], T]) -> T:
        """Run *job* on the supervisor's thread and return its result; it must not block."""
        if self.is_current():
            return job()
        done = Latch()
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(job())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                errors.append(error)
            done.set()

        self.post(run)
        done.wait()
        for error in errors:
            raise error
        return results[0]

    def after(self, seconds: float, job: Callable[[], None]) -> Timer:
        """Run *job* on the supervisor's thread in so many seconds."""
        timer = Timer(job)
        entry = (time.monotonic() + seconds, next(self._numbers), timer)
        self._new_timers.append(entry)
        if entry[0] < self._next_due and not self.is_current():
            os.eventfd_write(self._wake, 1)
        return timer

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout, _EVENTS)

    def _run(self, started: Latch) -> None:
        self._thread = threading.get_ident()
        started.set()
        while True:
            self.turn(self._run_timers())

    def _run_timers(self) -> float | None:
        """Run what is due; seconds until the next, None if there is none."""
        while True:
            self._take_new_timers()
            self._next_due = self._timers[0][0] if self._timers else math.inf
            if self._new_timers:
                continue  # who has added it may not have seen when we meant to look again
            if not self._timers:
                return None
            wait = self._next_due - time.monotonic()
            if wait > 0:
                return wait
            guarded(heapq.heappop(self._timers)[2].fire)

    def _take_new_timers(self) -> None:
        while self._new_timers:
            heapq.heappush(self._timers, self._new_timers.popleft())
        if len(self._timers) >= self._tidy_at:
            self._timers = [old for old in self._timers if old[2].is_pending()]
            heapq.heapify(self._timers)
            self._tidy_at = max(_TIDY, 2 * len(self._timers))


def require_real_threads() -> None:
    """Raise UnavailableError where another library has put something in their place.

    A loop that waits for descriptors would hold up all greenlets; and who takes away select's epoll
    means that.
    """
    for library, patcher, asks in _PATCHERS:
        patched = getattr(sys.modules.get(patcher), asks, None)
        if patched is not None and (patched("select") or patched("thread")):
            raise UnavailableError(
                f"processes cannot be attended to under {library}",
                why=f"{library} has patched the modules select or threading of this Python",
                todo="Run what uses core_infra.process in a Python of its own, or leave both out:"
                " patch_all(select=False, thread=False).",
            )


_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched"),
)
_current: Supervisor | None = None
_lock = threading.RLock()


def supervisor() -> Supervisor:
    """The supervisor of this process, started at first use."""
    global _current  # noqa: PLW0603 - one per process is the point
    found = _current
    if found is None:
        with _lock:  # as all locks here, one that a signal's handler on the same thread gets again
            found = _current = _current or Supervisor()
    return found


def _forget() -> None:
    global _current, _lock  # noqa: PLW0603 - a forked child has no supervisor thread
    _current = None
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget)


PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY})
"""What the system lacks at one moment, and may have at the next."""
_PATIENCE = 0.1
"""Seconds until what failed for that is tried again."""


class Jobs:
    """Jobs of one process.

    Args:
        loop: does them.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: list[Timer] = []

    def soon(self, job: Callable[[], None]) -> None:
        """Do it soon; from any thread."""
        self._loop.post(lambda: self._try(job))

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """Do it in so many seconds, unless :meth:`cancel` comes before."""
        self._timers.append(supervisor().after(seconds, lambda: self.soon(job)))

    def cancel(self) -> None:
        """Forget what was to be done later."""
        while self._timers:
            self._timers.pop().cancel()

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self.later(_PATIENCE, job)
