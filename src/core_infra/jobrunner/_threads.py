"""A pool of daemon threads: threads that do not outlive the program."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class NotStartedError(RuntimeError):
    """A function was certainly not called, and never will be."""


class DaemonThreads:
    """Calls functions on threads that are made when needed, and end with the program.

    A ThreadPoolExecutor waits for all of its threads when the program ends: with one handler that
    hangs, the program would never end. There are no Futures either: because of their locks, each
    costs as much as a short task.

    Only one thread is woken at a time: a thread that takes a task and sees another one wakes the
    next thread first, as Go's scheduler does. To wake a thread for each task costs more than a
    short task.

    Args:
        name: the name of its threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []  # releasing one wakes its thread
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
        """Call a function on a thread; on a new one if all are busy.

        Args:
            then: called on that thread with what the function returns or raises; must not raise.
                If there is no thread and none can be started, it is called here with a
                NotStartedError.
            fn: the function.
            args: its arguments.
            kwargs: its keyword arguments.
        """

        def task() -> None:
            try:
                result: T | BaseException = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                result = error
            then(result)

        handed_over = False
        try:
            with self._lock:
                handed_over = True
                self._tasks.append(task)
                self._wake_one()
        except NotStartedError as error:
            then(error)
        except BaseException as error:  # Ctrl-C, most likely while it waited for the lock
            if not handed_over:
                then(NotStartedError(f"its caller was interrupted: {type(error).__name__}"))
            raise

    def close(self) -> None:
        """Let the threads end once they have nothing to do; does not wait for that."""
        with self._lock:
            self._open = False
            while self._idle:
                self._idle.pop().release()

    def _wake_one(self) -> None:
        """Make sure that a thread takes the tasks; with the lock held."""
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
                if not self._threads:  # if there are others, they will take it
                    self._tasks.pop()
                    raise NotStartedError(f"there is no thread for it: {error}") from error
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
                del task  # what it refers to must not live as long as this thread
