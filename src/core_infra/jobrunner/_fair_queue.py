"""Queues of calls, one for each repository, that take turns."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from core_infra.jobrunner._handler_calls import HandlerCall, Repository

    Lanes = dict[Repository, deque[HandlerCall]]


class FairQueue:
    """Calls of handlers in the order of their turns: one of each repository, then the next one.

    Calls of a higher priority come first; those of one repository keep their order.
    """

    def __init__(self) -> None:
        self._by_priority: dict[int, Lanes] = {}
        """The repositories of each priority; the one whose turn it is comes first."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[HandlerCall]:
        for lanes in self._by_priority.values():
            yield from chain.from_iterable(lanes.values())

    def has(self, repository: Repository) -> bool:
        """Whether a call of a repository waits."""
        return any(repository in lanes for lanes in self._by_priority.values())

    def add(self, calls: Iterable[HandlerCall]) -> None:
        """Add calls behind the others of their repositories."""
        for call in calls:
            self._lane(call).append(call)
            self._size += 1

    def add_first(self, call: HandlerCall) -> None:
        """Add a call before the others of its repository."""
        self._lane(call).appendleft(call)
        self._size += 1

    def take(self, may: Callable[[Repository], bool]) -> HandlerCall | None:
        """Take the next call of a repository that may have one; None if there is none."""
        for priority in sorted(self._by_priority, reverse=True):
            lanes = self._by_priority[priority]
            if (turn := next(filter(may, lanes), None)) is not None:
                lane = lanes.pop(turn)
                call = lane.popleft()
                self._size -= 1
                if lane:
                    lanes[turn] = lane  # at the end
                elif not lanes:
                    del self._by_priority[priority]
                return call
        return None

    def clear(self) -> list[HandlerCall]:
        """Take all calls."""
        calls = list(self)
        self._by_priority.clear()
        self._size = 0
        return calls

    def _lane(self, call: HandlerCall) -> deque[HandlerCall]:
        lanes = self._by_priority.setdefault(call.priority, {})
        return lanes.setdefault(call.repository, deque())
