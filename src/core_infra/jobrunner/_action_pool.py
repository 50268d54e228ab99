"""Runs calls of handlers: a limited number at once, one per item, each with a time limit.

Repositories take turns, and no one may take so much that a slow action of it stops the others.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._fair_queue import FairQueue
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._threads import NotStartedError

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

    from core_infra.jobrunner._handler_calls import HandlerCall, Item, Outcome, Repository
    from core_infra.jobrunner._threads import DaemonThreads

    Inbox = queue.SimpleQueue[Callable[[], None]]
    Done = Callable[[Outcome | BaseException], None]
    Cancel = Callable[[], bool]
    Submit = Callable[[HandlerCall, Done], Cancel | None]
    """Has a call run somewhere, and passes its outcome, or what it raised, to the callback there.
    Never raises.

    Returns a function that cancels the call if it has not started yet; its outcome is a
    NotStartedError then, at once. Returns None if nothing can do so with certainty.
    """


def submit_to_threads(threads: DaemonThreads) -> Submit:
    """Run calls on threads of this process."""

    def submit(call: HandlerCall, done: Done) -> None:
        threads.call(done, call.function, call.handler, call.job)

    return submit


def submit_to_executor(executor: Executor) -> Submit:
    """Run calls wherever an executor runs them."""
    # Other executors may mean less by "cancelled": Dask also cancels a task that is running.
    is_exact = isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor)

    def submit(call: HandlerCall, done: Done) -> Cancel | None:
        def ended(future: Future[Outcome]) -> None:
            try:
                error = future.exception()
            except CancelledError:
                why = "the executor cancelled it"
                error = NotStartedError(why) if is_exact else RuntimeError(why)
            done(future.result() if error is None else error)

        try:
            future = executor.submit(call.function, call.handler, call.job)
        except Exception as error:  # noqa: BLE001 - whatever it raises, it did not accept the call
            done(NotStartedError(f"the executor refuses it: {describe_error(error)}"))
            return None
        future.add_done_callback(ended)
        return future.cancel if is_exact else None

    return submit


class _Running(NamedTuple):
    call: HandlerCall
    deadline: float
    cancel: Cancel | None


class ActionPool:
    """Runs calls of handlers. Not thread-safe: only the poller's thread uses it.

    Args:
        submit: where calls run: :func:`submit_to_threads` or :func:`submit_to_executor`.
        size: how many run at once.
        timeout: how long each may take, in seconds.
        inbox: functions for the poller's thread to call.
        keep_alive: an object that is not garbage-collected while a call runs.

    Attributes:
        is_shared: whether there may be calls of several repositories; if so, none of them takes all
            of the pool.
        ended: calls that have ended, each with its outcome or what it raised, for the owner to take
            out. A call that was abandoned appears here, too, once it has ended.
    """

    def __init__(
        self, submit: Submit, *, size: int, timeout: float, inbox: Inbox, keep_alive: object = None
    ) -> None:
        self.ended: deque[tuple[HandlerCall, Outcome | BaseException]] = deque()
        self.is_shared = False
        self._submit = submit
        self._size = size
        self._timeout = timeout
        self._inbox = inbox
        self._keep_alive = keep_alive
        self._waiting = FairQueue()
        self._queued: dict[Item, deque[HandlerCall]] = {}
        """Calls that wait for an item, in their order; each waits for one item at a time."""
        self._numbers = itertools.count()
        self._running: dict[int, _Running] = {}
        self._running_of: Counter[Repository] = Counter()
        self._seen: set[Repository] = set()
        self._abandoned: dict[int, HandlerCall] = {}
        """Overdue calls that still run: no other call may touch their items."""
        self._busy_items: set[Item] = set()
        self._lock = threading.Lock()
        self._unfinished: set[int] = set()
        self._when_empty: Callable[[], object] | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits, runs or has ended unseen, apart from abandoned calls."""
        return not (self._waiting or self._queued or self._running or self.ended)

    def has_room(self, repository: Repository) -> bool:
        """Whether it could start another call of a repository, if it had one."""
        return self._may_start(repository) and not self._waiting.has(repository)

    @property
    def abandoned(self) -> list[HandlerCall]:
        """Abandoned calls that still run."""
        return list(self._abandoned.values())

    @property
    def active(self) -> Iterator[HandlerCall]:
        """All calls that were added and have not been taken out, abandoned ones included."""
        yield from self._waiting
        for queued in self._queued.values():
            yield from queued
        yield from (running.call for running in self._running.values())
        yield from self._abandoned.values()
        yield from (call for call, _ in self.ended)

    def add(self, calls: Iterable[HandlerCall]) -> None:
        """Run calls; those of a repository in this order."""
        added = list(calls)
        self._seen.update(call.repository for call in added)
        self.is_shared = self.is_shared or len(self._seen) > 1
        self._waiting.add(added)

    def is_blocked(self, call: HandlerCall) -> bool:
        """Whether an abandoned call still holds an item of this one."""
        return bool(self._abandoned) and any(
            not call.items.isdisjoint(other.items) for other in self._abandoned.values()
        )

    def start(self) -> tuple[list[HandlerCall], list[HandlerCall]]:
        """Start what can start.

        Returns:
            The calls that were started, and those that will not be, as an abandoned call holds
            their items.
        """
        started: list[HandlerCall] = []
        rejected: list[HandlerCall] = []
        while (call := self._waiting.take(self._may_start)) is not None:
            if self.is_blocked(call):
                rejected.append(call)
                self._pass_on(call)
                continue
            if (item := next(iter(call.items & self._busy_items), None)) is not None:
                self._queued.setdefault(item, deque()).append(call)
                self._pass_on(call)
                continue
            self._busy_items |= call.items
            self._start(call)
            started.append(call)
        return started, rejected

    def deadline(self) -> float:
        """When the next call is overdue, by the monotonic clock."""
        # All have the same time limit, so the one that started first is the next.
        return next((running.deadline for running in self._running.values()), float("inf"))

    def abandon(self, now: float) -> tuple[list[HandlerCall], list[HandlerCall]]:
        """Stop waiting for overdue calls.

        Args:
            now: the monotonic clock; infinity for all calls.

        Returns:
            The abandoned calls, and those that waited for their items and will not be started. A
            call that had not started yet is in neither: it ends with a NotStartedError.
        """
        overdue = [number for number, one in self._running.items() if one.deadline <= now]
        abandoned: list[HandlerCall] = []
        rejected: list[HandlerCall] = []
        for number in overdue:
            running = self._running[number]
            if running.cancel is not None and running.cancel():
                continue
            call = self._running.pop(number).call
            self._running_of[call.repository] -= 1
            self._abandoned[number] = call
            abandoned.append(call)
            for item in call.items:
                rejected += self._queued.pop(item, ())
        return abandoned, rejected

    def clear_waiting(self) -> list[HandlerCall]:
        """Return the calls that were not started, and forget them."""
        queued = [call for calls in self._queued.values() for call in calls]
        self._queued.clear()
        return [*self._waiting.clear(), *queued]

    def when_empty(self, call: Callable[[], object]) -> None:
        """Call a function once nothing runs, not even an abandoned call; on any thread."""
        with self._lock:
            if self._unfinished:
                self._when_empty = call
                return
        call()

    def _may_start(self, repository: Repository) -> bool:
        free = self._size - len(self._running)
        # As many as are left free: so each further repository finds something free, too.
        limit = free - self._running_of[repository] if self.is_shared else free
        return limit > 0

    def _start(self, call: HandlerCall) -> None:
        number = next(self._numbers)

        def done(outcome: Outcome | BaseException) -> None:
            self._inbox.put(partial(self._end, number, outcome))
            self._finish(number)

        with self._lock:
            self._unfinished.add(number)
        cancel = self._submit(call, done)
        self._running[number] = _Running(call, time.monotonic() + self._timeout, cancel)
        self._running_of[call.repository] += 1

    def _finish(self, number: int) -> None:
        with self._lock:
            self._unfinished.discard(number)
            if self._unfinished or self._when_empty is None:
                return
            call, self._when_empty = self._when_empty, None
        call()

    def _end(self, number: int, outcome: Outcome | BaseException) -> None:
        running = self._running.pop(number, None)
        call = running.call if running else self._abandoned.pop(number)
        if running:
            self._running_of[call.repository] -= 1
        self._busy_items -= call.items
        for item in call.items:
            self._wake(item)
        self.ended.append((call, outcome))

    def _pass_on(self, call: HandlerCall) -> None:
        """Give the items that a call was woken for, and does not take, to the next calls."""
        for free in call.items - self._busy_items:
            self._wake(free)

    def _wake(self, item: Item) -> None:
        if queued := self._queued.get(item):
            # Only one of them: it will hold the item, or wait for another one and wake the next.
            self._waiting.add_first(queued.popleft())
            if not queued:
                del self._queued[item]
