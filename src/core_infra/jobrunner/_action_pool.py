"""Runs tasks: so many at once, one for each item, each for so long."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._handler_calls import told
from core_infra.jobrunner._threads import NotBegunError

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor, Future

    from core_infra.jobrunner._handler_calls import Item, Outcome, Task
    from core_infra.jobrunner._threads import DaemonThreads

    Ended = Callable[[Task, Outcome | BaseException], None]
    Inbox = queue.SimpleQueue[Callable[[], None]]
    Cancel = Callable[[], bool]
    Runs = Callable[[Task, Callable[[Outcome | BaseException], None]], Cancel | None]
    """Has a task run somewhere, and its outcome, or what it raised, told there; never raises.

    Returns what takes it back if it is not begun yet (which is then told as a NotBegunError, at
    once), or None if nothing can do so with certainty.
    """


def on_threads(threads: DaemonThreads) -> Runs:
    """Have tasks run on threads of our own."""

    def run(task: Task, then: Callable[[Outcome | BaseException], None]) -> None:
        threads.call(then, task.call, task.handler, task.job)

    return run


def on_executor(executor: Executor) -> Runs:
    """Have tasks run wherever an executor has them run."""
    # Elsewhere "cancelled" may mean less: Dask says it also of a task that runs at this moment.
    exact = isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor)

    def run(task: Task, then: Callable[[Outcome | BaseException], None]) -> Cancel | None:
        def ended(future: Future[Outcome]) -> None:
            try:
                error = future.exception()
            except CancelledError:
                why = "the executor cancelled it"
                error = NotBegunError(why) if exact else RuntimeError(why)
            then(future.result() if error is None else error)

        try:
            future = executor.submit(task.call, task.handler, task.job)
        except Exception as error:  # noqa: BLE001 - whatever an executor raises: it has not taken it
            then(NotBegunError(f"the executor refuses it: {told(error)}"))
            return None
        future.add_done_callback(ended)
        return future.cancel if exact else None

    return run


class _Run(NamedTuple):
    task: Task
    deadline: float
    cancel: Cancel | None


class Crew:
    """Has tasks run. Not for several threads: all is done by the poller's own.

    Args:
        run: where they run: :func:`on_threads` or :func:`on_executor`.
        size: how many at once.
        timeout: how long each may take, in seconds.
        inbox: what the poller's thread calls.
        ended: called for each task that ended, with its outcome or what it raised; also long
            after it was given up.
    """

    def __init__(self, run: Runs, *, size: int, timeout: float, inbox: Inbox, ended: Ended) -> None:
        self._run = run
        self._size = size
        self._timeout = timeout
        self._inbox = inbox
        self._ended = ended
        self._waiting: deque[Task] = deque()
        self._parked: dict[Item, deque[Task]] = {}
        """Tasks that wait for an item, in their order; each waits for one item at a time."""
        self._numbers = itertools.count()
        self._running: dict[int, _Run] = {}
        self._late: dict[int, Task] = {}
        """What was given up and still runs: nothing else may touch the items of these tasks."""
        self._touched: set[Item] = set()
        self._lock = threading.Lock()
        self._unended: set[int] = set()
        self._then: Callable[[], object] | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits or runs, apart from what was given up."""
        return not (self._waiting or self._parked or self._running)

    @property
    def wants_more(self) -> bool:
        """It could begin another task, if it had one."""
        return not self._waiting and len(self._running) < self._size

    @property
    def given_up(self) -> list[Task]:
        """Tasks that were given up and still run."""
        return list(self._late.values())

    def add(self, tasks: Iterable[Task]) -> None:
        """Have tasks run, in this order."""
        self._waiting.extend(tasks)

    def is_held(self, task: Task) -> bool:
        """Tell whether a task that was given up still holds an item of this one."""
        return bool(self._late) and any(
            not task.items.isdisjoint(late.items) for late in self._late.values()
        )

    def start(self) -> tuple[list[Task], list[Task]]:
        """Begin what can begin.

        Returns:
            Those tasks, and those that will not be begun, as what was given up holds their items.
        """
        begun: list[Task] = []
        left: list[Task] = []
        while self._waiting and len(self._running) < self._size:
            task = self._waiting.popleft()
            if self.is_held(task):
                left.append(task)
                self._pass_on(task)
                continue
            if (item := next(iter(task.items & self._touched), None)) is not None:
                self._parked.setdefault(item, deque()).append(task)
                self._pass_on(task)
                continue
            self._touched |= task.items
            self._begin(task)
            begun.append(task)
        return begun, left

    def _begin(self, task: Task) -> None:
        number = next(self._numbers)

        def then(outcome: Outcome | BaseException) -> None:
            self._inbox.put(partial(self._end, number, outcome))
            self._leave(number)

        with self._lock:
            self._unended.add(number)
        cancel = self._run(task, then)
        self._running[number] = _Run(task, time.monotonic() + self._timeout, cancel)

    def deadline(self) -> float:
        """When the next task will have taken too long, by the monotonic clock."""
        # They all have the same time, so that the one that began first is the next.
        return next((run.deadline for run in self._running.values()), float("inf"))

    def give_up(self, now: float) -> tuple[list[Task], list[Task]]:
        """Wait no longer for tasks whose time has passed.

        Args:
            now: the monotonic clock; infinity for all.

        Returns:
            Those tasks, and those that waited for their items and will not be begun. What was not
            begun yet is in neither: its end comes through the inbox.
        """
        overdue = [number for number, run in self._running.items() if run.deadline <= now]
        tasks: list[Task] = []
        left: list[Task] = []
        for number in overdue:
            run = self._running[number]
            if run.cancel is not None and run.cancel():
                continue
            task = self._running.pop(number).task
            self._late[number] = task
            tasks.append(task)
            for item in task.items:
                left += self._parked.pop(item, ())
        return tasks, left

    def dismiss(self) -> list[Task]:
        """Return the tasks that were not begun; they will not be."""
        left = [*self._waiting, *(task for parked in self._parked.values() for task in parked)]
        self._waiting.clear()
        self._parked.clear()
        return left

    def when_alone(self, call: Callable[[], object]) -> None:
        """Call something once nothing runs, not even what was given up; on any thread."""
        with self._lock:
            if self._unended:
                self._then = call
                return
        call()

    def _leave(self, number: int) -> None:
        with self._lock:
            self._unended.discard(number)
            if self._unended or self._then is None:
                return
            then, self._then = self._then, None
        then()

    def _end(self, number: int, outcome: Outcome | BaseException) -> None:
        run = self._running.pop(number, None)
        task = run.task if run else self._late.pop(number)
        self._touched -= task.items
        for item in task.items:
            self._wake(item)
        self._ended(task, outcome)

    def _pass_on(self, task: Task) -> None:
        """Let others have what a task was woken for and does not take."""
        for free in task.items - self._touched:
            self._wake(free)

    def _wake(self, item: Item) -> None:
        if parked := self._parked.get(item):
            # One of them only: it will hold the item, or wait for another one and wake the next.
            self._waiting.appendleft(parked.popleft())
            if not parked:
                del self._parked[item]
