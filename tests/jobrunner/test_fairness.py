"""A slow action costs its repository, and no other one; repositories take turns."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core_infra.jobrunner import RecordedSource, SystemClock
from core_infra.jobrunner._action_pool import ActionPool
from core_infra.jobrunner._handler_calls import HandlerCall
from jobs.actors import Actor, Gate
from jobs.samples import signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.polling import Make

NOTHING: Any = None


class Pool:
    """A pool of actions that end when the test says so."""

    def __init__(self, size: int) -> None:
        self.running: dict[HandlerCall, Callable[[Any], None]] = {}
        self.started: list[HandlerCall] = []
        self.inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.pool = ActionPool(self.submit, size=size, timeout=60, inbox=self.inbox)

    def submit(self, call: HandlerCall, done: Callable[[Any], None]) -> None:
        assert all(call.items.isdisjoint(other.items) for other in self.running)
        self.running[call] = done
        self.started.append(call)

    def end(self, call: HandlerCall) -> None:
        self.running.pop(call)(None)
        self.inbox.get_nowait()()


class Source(NamedTuple):
    name: str
    priority: int = 0


def call(repo: str, item: int, place: int = 0, priority: int = 0) -> HandlerCall:
    job: Any = f"{repo}{item}" if not place else f"{repo}{item} at {place}"
    source: Any = Source(repo, priority)
    return HandlerCall(NOTHING, NOTHING, job, frozenset([("", "acme", repo, item)]), source)


calls = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9)), max_size=40)


@example([("a", 1), ("a", 2), ("b", 1), ("b", 2)], 2, {"a"}, dict.fromkeys("abcd", 0))
@given(
    calls,
    st.integers(1, 8),
    st.sets(st.sampled_from("abcd"), min_size=1, max_size=3),
    st.fixed_dictionaries({name: st.integers(-1, 1) for name in "abcd"}),
)
def test_actions_that_hang_cost_their_repository(
    wanted: list[tuple[str, int]], size: int, hanging: set[str], priorities: dict[str, int]
) -> None:
    tested = Pool(size)
    tested.pool.is_shared = True
    every = [call(*one, place, priorities[one[0]]) for place, one in enumerate(wanted)]
    tested.pool.add(every)
    while True:
        tested.pool.start()
        assert len(tested.running) <= size
        ending = [one for one in tested.running if one.repository[2] not in hanging]
        if not ending:
            break
        tested.end(ending[0])
    if 2 ** len(hanging) <= size:
        well = [one for one in every if one.repository[2] not in hanging]
        assert sorted(map(repr, well)) == sorted(
            repr(one) for one in tested.started if one.repository[2] not in hanging
        )


@pytest.mark.parametrize(
    ("high", "expected"),
    [("", "a1 b1 c1 a2 b2 c2 a3 b3"), ("b", "b1 b2 b3 a1 c1 a2 c2 a3")],
)
def test_repositories_take_turns_by_their_priority(high: str, expected: str) -> None:
    tested = Pool(99)
    counts = {"a": 3, "b": 3, "c": 2}
    tested.pool.add(
        call(repo, item, priority=repo == high)
        for repo, count in counts.items()
        for item in range(1, count + 1)
    )
    tested.pool.start()
    assert " ".join(str(one.job) for one in tested.started) == expected


def test_a_repository_alone_uses_all_workers() -> None:
    tested = Pool(3)
    tested.pool.add(call("a", item) for item in range(1, 6))
    tested.pool.start()
    assert len(tested.running) == 3


def test_a_repository_whose_actions_hang_does_not_keep_others_from_acting(make: Make) -> None:
    gate = Gate()
    slow = Actor("slow", do=gate, wants=lambda seen: seen.repo_name == "slow")
    fast = Actor("fast", wants=lambda seen: seen.repo_name == "fast")
    many = [signal(repo_name="slow", pr_number=number, child_number=0) for number in range(1, 600)]
    second = RecordedSource(name="fast")
    poller = make(
        slow,
        fast,
        sources=[RecordedSource(many, name="slow"), second],
        clock=SystemClock(),
        poll_interval=0.01,
        workers=4,
    )
    thread = threading.Thread(target=poller.run)
    thread.start()
    gate.wait()
    acted = threading.Semaphore(0)
    fast.do = lambda *_: acted.release()
    second.signals = [
        signal(repo_name="fast", pr_number=number, child_number=0) for number in range(1, 9)
    ]
    assert all(acted.acquire(timeout=30) for _ in range(8))
    poller.stop()
    gate.opened.set()
    thread.join(30)
    assert not thread.is_alive()
