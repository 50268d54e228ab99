"""The loop of a thread that waits for what it has started."""

from __future__ import annotations

import math
import threading
from _signal import getsignal  # type: ignore[import-not-found]
from typing import TYPE_CHECKING, Self

from core_infra._eventloop.loop import Loop, new_wake
from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os, select, signal

if TYPE_CHECKING:
    from collections.abc import Callable


class CallerLoop(Loop):
    """For one block: who waits anyway, attends to its programs itself.

    The supervisor would have to wake it for each news, which on two threads of Python takes as long
    as a third of a short program. When the block ends, however it ends, the supervisor takes over
    whatever is left, and all that is asked of this loop later.

    What its callbacks raise, the block raises: so does the exception of a signal, wherever it hits.
    But a signal's handler that goes on to use the service would find it in the middle of a step:
    see :func:`handlers_only_raise`.
    """

    def __init__(self) -> None:
        # Of few descriptors, poll is quicker than an epoll, which has to be told of each.
        self._poll_object = select.poll()
        super().__init__(self._poll_object, _spare_wake())
        self._lock = threading.RLock()
        self._open = True

    def is_current(self) -> bool:
        """Whether the caller is on the thread that runs the loop."""
        if self._open:
            return threading.get_ident() == self._thread
        return supervisor().is_current()

    def post(self, job: Callable[[], None]) -> None:
        """Run *job* on the loop's thread soon; does not wait for it."""
        with self._lock:
            if self._open:
                self._jobs.append(job)
                super().wake()
                return
        supervisor().post(job)

    def wake(self) -> None:
        """End the turn that waits, if there is one; from any thread."""
        with self._lock:
            if self._open:
                super().wake()

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the loop's thread whenever *fd* is ready."""
        with self._lock:
            if self._open:
                super().watch(fd, events, on_ready)
                super().wake()  # poll does not know it yet
                return
        supervisor().watch(fd, events, on_ready)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before the descriptor is closed; nothing if it is not watched."""
        with self._lock:
            if self._open:
                super().unwatch(fd)
                return
        supervisor().unwatch(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open = False
            for fd, (on_ready, events) in self._watched.items():
                supervisor().watch(fd, events, on_ready)
            for job in self._jobs:
                supervisor().post(job)
            _spare.append(self._wake)

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._poll_object.poll(None if timeout is None else math.ceil(timeout * 1000))

    def _call(self, _fd: int, callback: Callable[[int], None], events: int) -> None:
        callback(events)


def handlers_only_raise() -> bool:
    """Whether handlers of signals, which Python calls on the main thread, do nothing but raise.

    That of Ctrl-C raises KeyboardInterrupt, unless somebody has put another in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        return True
    try:
        return _HARMLESS.issuperset(map(getsignal, _SIGNALS))
    except TypeError:  # one that cannot be hashed
        return False


# Asked by getsignal of _signal: that of signal makes enums, which takes 20 times as long.
_SIGNALS = tuple(signal.valid_signals())
_HARMLESS = frozenset({signal.SIG_DFL, signal.SIG_IGN, None, signal.default_int_handler})

# Of loops that are over, for the next ones: as many as there were at once.
_spare: list[int] = []

os.register_at_fork(after_in_child=_spare.clear)  # the parent's events are not ours


def _spare_wake() -> int:
    try:
        return _spare.pop()
    except IndexError:
        return new_wake()
