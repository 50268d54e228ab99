"""One thread that starts every child process, notices its end, and moves its bytes.

A thread per stream or per child does not scale, and polling costs either latency or CPU. Here one
selector waits for everything at once: readable sockets and pipes, and pidfds, which the kernel
makes readable when a process ends (Linux 5.3; ``pidfd_open(2)``).

The thread also *starts* the children, for a reason of the kernel's: the parent-death signal
(``PR_SET_PDEATHSIG``) fires when the *thread* that forked ends. A worker thread of the user's may
end at any time; this one lives as long as the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Supervisor:
    """The thread and its selector; use :func:`supervisor` for the one of this process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake)
        self._thread = threading.Thread(target=self._run, name="core-infra-supervisor", daemon=True)
        self._thread.start()

    def call(self, job: Callable[[], T]) -> T:
        """Run *job* on the supervisor's thread and return its result; it must not block."""
        if threading.current_thread() is self._thread:
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
        # EAGAIN: the pipe is full of wake-ups already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the supervisor's thread whenever *fd* is ready.

        Watching a descriptor again replaces its events. Call on the supervisor's thread.
        """
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, on_ready)
        else:
            self._selector.register(fd, events, on_ready)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*; call on the supervisor's thread, before the descriptor is closed."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                # An earlier callback of this round may have unregistered the descriptor.
                if self._selector.get_map().get(key.fd) is not key:
                    continue
                try:
                    key.data(events)
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # One broken callback must not take down the thread that serves all others.
                    _log.exception("callback for descriptor %d failed", key.fd)
                    self.unwatch(key.fd)

    def _drain_wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._jobs:
            job = self._jobs.popleft()
            try:
                job()
            except Exception:  # noqa: BLE001 - logged with its traceback
                _log.exception("supervisor job failed")


_current: Supervisor | None = None
_lock = threading.Lock()


def supervisor() -> Supervisor:
    """The supervisor of this process, started at first use."""
    global _current  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _current is None:
            _current = Supervisor()
        return _current


def _forget() -> None:
    global _current, _lock  # noqa: PLW0603 - a forked child has no supervisor thread
    _current = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
