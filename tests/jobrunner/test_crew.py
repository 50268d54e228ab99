"""Who may begin when: no task is forgotten, whatever holds its items."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner._action_pool import Crew
from core_infra.jobrunner._handler_calls import Task

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_was_woken_and_is_not_begun_lets_the_next_one_begin() -> None:
    ends: dict[str, Callable[[Any], None]] = {}

    def run(task: Task, then: Callable[[Any], None]) -> None:
        ends[name(task)] = then

    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    crew = Crew(run, size=9, timeout=60, inbox=inbox, ended=lambda *_: None)
    crew.add([task("first", 2), task("second", 2), task("both", 2, 1), task("last", 2)])
    crew.start()
    crew.add([task("hangs", 1)])
    crew.start()
    ends.pop("first")(None)
    inbox.get_nowait()()
    crew.start()
    late, _ = crew.give_up(crew.deadline())
    assert [name(one) for one in late] == ["hangs"]
    ends.pop("second")(None)
    inbox.get_nowait()()
    begun, left = crew.start()
    assert [name(one) for one in begun] == ["last"]
    assert [name(one) for one in left] == ["both"]
    ends.pop("last")(None)
    inbox.get_nowait()()
    assert crew.idle


def task(name: str, *numbers: int) -> Task:
    job: Any = name
    nothing: Any = None
    items = frozenset(("", "acme", "widgets", number) for number in numbers)
    return Task(nothing, nothing, job, items, None)


def name(task: Task) -> str:
    return str(task.job)
