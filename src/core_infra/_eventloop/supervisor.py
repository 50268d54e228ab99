"""The supervisor thread: serves the descriptors of all children, and runs their timers.

A thread per stream or per child does not scale, and polling costs either latency or CPU. Here one
epoll waits for everything at once, until the first timer is due.

Code on this thread must not block: that would delay everybody's children. Users' own code (event
handlers) never runs on it.
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
from core_infra._eventloop.loop import READ, WRITE, Loop, new_wake, run_logged
from core_infra._unpatched import os, select, time
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "READ",
    "TRANSIENT_ERRORS",
    "WRITE",
    "Deferred",
    "Supervisor",
    "Timer",
    "require_real_threads",
    "supervisor",
]

T = TypeVar("T")

TRANSIENT_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY}
)
"""Errors of a lack that may be over a moment later."""
_RETRY_AFTER = 0.1
"""Seconds until a job that failed with one of these is tried again."""
_MAX_EVENTS = 64  # per turn; the rest comes in the next one
_COMPACT_AT = 256  # timers; then the cancelled ones, of commands that ended in time, are dropped


class Timer:
    """A job for later, on the supervisor's thread."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job: Callable[[], None] | None = job

    def cancel(self) -> None:
        """Do not run it; does nothing if it has run."""
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
    """A loop with a thread of its own; :func:`supervisor` returns the one of this process."""

    def __init__(self) -> None:
        require_real_threads()
        self._epoll = select.epoll()
        super().__init__(self._epoll, new_wake())
        self._timers: list[_Entry] = []
        self._new_timers: deque[_Entry] = deque()  # from all threads, without a lock
        self._next_due = math.inf
        self._compact_at = _COMPACT_AT
        self._numbers = itertools.count()  # timers that are due at the same time keep their order
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
            except BaseException as error:  # noqa: BLE001 - raised in the caller, whatever it is
                errors.append(error)
            done.set()

        self.post(run)
        done.wait()
        for error in errors:
            raise error
        return results[0]

    def after(self, seconds: float, job: Callable[[], None]) -> Timer:
        """Run *job* on the supervisor's thread in *seconds* seconds."""
        timer = Timer(job)
        entry = (time.monotonic() + seconds, next(self._numbers), timer)
        self._new_timers.append(entry)
        if entry[0] < self._next_due and not self.is_current():
            os.eventfd_write(self._wake, 1)
        return timer

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout, _MAX_EVENTS)

    def _run(self, started: Latch) -> None:
        self._thread = threading.get_ident()
        started.set()
        while True:
            self.run_once(self._run_timers())

    def _run_timers(self) -> float | None:
        """Run the timers that are due; returns seconds until the next, None if there is none."""
        while True:
            self._take_new_timers()
            self._next_due = self._timers[0][0] if self._timers else math.inf
            if self._new_timers:
                continue  # added while we still had an older _next_due: nobody wakes us for it
            if not self._timers:
                return None
            wait = self._next_due - time.monotonic()
            if wait > 0:
                return wait
            run_logged(heapq.heappop(self._timers)[2].fire)

    def _take_new_timers(self) -> None:
        while self._new_timers:
            heapq.heappush(self._timers, self._new_timers.popleft())
        if len(self._timers) >= self._compact_at:
            self._timers = [old for old in self._timers if old[2].is_pending()]
            heapq.heapify(self._timers)
            self._compact_at = max(_COMPACT_AT, 2 * len(self._timers))


class Deferred:
    """Jobs that a loop runs later, all of which can be cancelled at once.

    A job that fails because the system lacks something for a moment (:data:`TRANSIENT_ERRORS`) is
    tried again.

    Args:
        loop: runs the jobs.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: list[Timer] = []

    def soon(self, job: Callable[[], None]) -> None:
        """Run *job* soon; on any thread."""
        self._loop.post(lambda: self._try(job))

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """Run *job* in *seconds* seconds, unless :meth:`cancel` is called before."""
        self._timers.append(supervisor().after(seconds, lambda: self.soon(job)))

    def cancel(self) -> None:
        """Cancel all jobs that wait for their time."""
        while self._timers:
            self._timers.pop().cancel()

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            if error.errno not in TRANSIENT_ERRORS:
                raise
            self.later(_RETRY_AFTER, job)


def require_real_threads() -> None:
    """Raise UnavailableError where gevent or eventlet has replaced threads or ``select``.

    A loop that waits for descriptors would block all greenlets; and a patch that removes
    ``select.epoll`` is meant to prevent that.
    """
    for library, patcher, query in _PATCHERS:
        patched = getattr(sys.modules.get(patcher), query, None)
        if patched is not None and (patched("select") or patched("thread")):
            raise UnavailableError(
                f"core_infra.process does not work under {library}",
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
        with _lock:  # reentrant: a signal handler on the same thread may need it again
            found = _current = _current or Supervisor()
    return found


def _reset_after_fork() -> None:
    global _current, _lock  # noqa: PLW0603 - a forked child has no supervisor thread
    _current = None
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_reset_after_fork)
