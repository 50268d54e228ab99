"""Threads that do not outlive the program."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class NotBegunError(RuntimeError):
    """What was to be called was not, for certain, and never will be."""


class DaemonThreads:
    """Calls functions on threads that are made when needed, and end with the program.

    A ThreadPoolExecutor waits at the program's end for every thread of its own: one handler that
    hangs, and the program never ends. Nor are there Futures: with their locks, each takes as long
    as a short task.

    One thread at a time is woken: who takes a task and sees another wakes the next before he begins
    (as Go's scheduler does it). To wake one for each task takes longer than a short task.

    Args:
        name: what its threads are called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []  # of each, what wakes it
        self._waking = False
        self._open = True
        self._threads: list[threading.Thread] = []

    def call(
        self,
        then: Callable[[T | BaseException], object],
        fn: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have a function called on a thread; a new one if all are busy.

        Args:
            then: called there with what the function returns or raises; must not raise. If there
                is no thread, and there cannot be one, it is called here with a NotBegunError.
            fn: the function.
            args: what it is called with.
            kwargs: likewise.
        """

        def task() -> None:
            try:
                result: T | BaseException = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever has asked gets it
                result = error
            then(result)

        handed_over = False
        try:
            with self._lock:
                handed_over = True
                self._tasks.append(task)
                self._wake_one()
        except NotBegunError as error:
            then(error)
        except BaseException as error:  # Ctrl-C, most likely while it waited for the lock
            if not handed_over:
                then(NotBegunError(f"its caller was interrupted: {type(error).__name__}"))
            raise

    def close(self) -> None:
        """Let the threads end once they have nothing to do; does not wait for that."""
        with self._lock:
            self._open = False
            while self._idle:
                self._idle.pop().release()

    def _wake_one(self) -> None:
        """See to it that somebody comes for the tasks; with the lock held."""
        if self._waking:
            return
        self._waking = True
        if self._idle:
            self._idle.pop().release()
        else:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._waking = False
                if not self._threads:  # if there are some, they will come for it
                    self._tasks.pop()
                    raise NotBegunError(f"there is no thread for it: {error}") from error
            else:
                self._threads.append(thread)

    def _work(self) -> None:
        woken = True
        mine = threading.Lock()
        mine.acquire()
        while True:
            with self._lock:
                if woken:
                    self._waking = woken = False
                task = self._tasks.popleft() if self._tasks else None
                if self._tasks:
                    self._wake_one()
                if task is None:
                    if not self._open:
                        return
                    self._idle.append(mine)
            if task is None:
                mine.acquire()
                woken = True
            else:
                task()
                del task  # whatever it holds is not to live as long as this thread
