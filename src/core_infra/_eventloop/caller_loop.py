"""An event loop that a thread runs while it waits for its own programs."""

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
    """A loop for one ``with`` block: a thread that waits anyway serves its programs itself.

    The supervisor would have to wake the thread for each event; switching between two threads of
    Python takes as long as a third of a short program. When the block ends, for whatever reason,
    the supervisor takes over everything that is left, and all later calls of this loop.

    Exceptions of callbacks leave the block, as does the exception of a signal handler, wherever it
    arrives. A handler that does not raise but goes on to use the service would find it in the
    middle of a step: see :func:`handlers_only_raise`.
    """

    def __init__(self) -> None:
        # For few descriptors poll is faster than epoll, which needs a call for each of them.
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
        """End the current wait of the loop, if there is one; on any thread."""
        if threading.get_ident() != self._thread:
            with self._lock:
                if self._open:
                    super().wake()

    def watch(self, fd: int, events: int, on_ready: Callable[[int], None]) -> None:
        """Call *on_ready(events)* on the loop's thread whenever *fd* is ready."""
        with self._lock:
            if self._open:
                super().watch(fd, events, on_ready)
                super().wake()  # the current poll does not have it yet
                return
        supervisor().watch(fd, events, on_ready)

    def unwatch(self, fd: int) -> None:
        """Stop watching *fd*, before it is closed; does nothing if it is not watched."""
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
            for fd, (on_ready, events, _turn) in self._watched.items():
                supervisor().watch(fd, events, on_ready)
            for job in self._jobs:
                supervisor().post(job)
            _spare.append(self._wake)

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._poll_object.poll(None if timeout is None else math.ceil(timeout * 1000))

    def _call(self, _fd: int, callback: Callable[[int], None], events: int) -> None:
        callback(events)


def handlers_only_raise() -> bool:
    """Whether all signal handlers, which Python calls on the main thread, do nothing but raise.

    The default handler of Ctrl-C raises KeyboardInterrupt; any other may do anything.
    """
    if threading.current_thread() is not threading.main_thread():
        return True
    try:
        return _HARMLESS.issuperset(map(getsignal, _SIGNALS))
    except TypeError:  # an unhashable handler
        return False


# From _signal: signal.getsignal makes enums, which takes 20 times as long.
_SIGNALS = tuple(signal.valid_signals())
_HARMLESS = frozenset({signal.SIG_DFL, signal.SIG_IGN, None, signal.default_int_handler})

# Wake descriptors of finished loops, for the next ones: as many as there were loops at once.
_spare: list[int] = []

os.register_at_fork(after_in_child=_spare.clear)  # they are shared with the parent


def _spare_wake() -> int:
    try:
        return _spare.pop()
    except IndexError:
        return new_wake()
