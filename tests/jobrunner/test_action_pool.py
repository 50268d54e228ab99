"""Which call may start when: none is forgotten, whatever holds its items."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner._action_pool import ActionPool
from core_infra.jobrunner._handler_calls import HandlerCall

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_call_that_was_woken_and_is_rejected_lets_the_next_one_start() -> None:
    ends: dict[str, Callable[[Any], None]] = {}

    def submit(call: HandlerCall, done: Callable[[Any], None]) -> None:
        ends[name(call)] = done

    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    pool = ActionPool(submit, size=9, timeout=60, inbox=inbox)
    pool.add([call("first", 2), call("second", 2), call("both", 2, 1), call("last", 2)])
    pool.start()
    pool.add([call("hangs", 1)])
    pool.start()
    ends.pop("first")(None)
    inbox.get_nowait()()
    pool.start()
    abandoned, _ = pool.abandon(pool.deadline())
    assert [name(one) for one in abandoned] == ["hangs"]
    ends.pop("second")(None)
    inbox.get_nowait()()
    started, rejected = pool.start()
    assert [name(one) for one in started] == ["last"]
    assert [name(one) for one in rejected] == ["both"]
    ends.pop("last")(None)
    inbox.get_nowait()()
    assert [name(one) for one, _ in pool.ended] == ["first", "second", "last"]
    pool.ended.clear()
    assert pool.idle


def call(name: str, *numbers: int) -> HandlerCall:
    job: Any = name
    nothing: Any = None
    items = frozenset(("", "acme", "widgets", number) for number in numbers)
    return HandlerCall(nothing, nothing, job, items, None)


def name(call: HandlerCall) -> str:
    return str(call.job)
