"""Registering handlers, and finding those of a message."""

from __future__ import annotations

import abc
import contextlib
import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import Mock

import pytest

from core_infra.errors import AlreadyExistsError, InvalidError
from core_infra.framework import Bus
from framework_support import Counter, Started

if TYPE_CHECKING:
    from collections.abc import Callable

    InThreads = Callable[[Callable[[int], None], int], None]


class Unhashable(list[object]):
    def __call__(self, message: object) -> None:
        self.append(message)


class NoProtocolForRuntime(Protocol):
    name: str


def test_registering_twice_is_an_error_that_names_the_handler(bus: Bus) -> None:
    counter = Counter()
    for register in (bus.register_action, bus.register_query, bus.register_task):
        register(counter.count)
        with pytest.raises(
            AlreadyExistsError, match=r"Counter\.count.*already registered for object"
        ):
            register(counter.count)
    bus.action("x")
    assert counter.seen == ["x"]


def test_another_objects_method_or_another_kind_is_another_registration(bus: Bus) -> None:
    one, other = Counter(), Counter()
    bus.register_action(one.count)
    bus.register_action(other.count)
    bus.register_action(other.count, Started)
    bus.action(Started("x"))
    assert (len(one.seen), len(other.seen)) == (1, 2)


def test_a_handler_need_not_be_hashable(bus: Bus) -> None:
    handler = Unhashable()
    with bus.register_action(handler):
        bus.action("x")
    bus.action("y")
    assert handler == ["x"]


def test_unregistering(bus: Bus) -> None:
    counter = Counter()
    registration = bus.register_action(counter.count)
    bus.action(1)
    registration.unregister()
    bus.action(2)
    again = bus.register_action(counter.count)
    registration.unregister()  # a second time: it must leave the new one alone
    bus.action(3)
    again.unregister()
    bus.action(4)
    assert counter.seen == [1, 3]


def test_a_registration_lasts_as_long_as_its_block(bus: Bus) -> None:
    counter = Counter()
    with contextlib.suppress(KeyError), bus.register_action(counter.count) as registration:
        assert registration.handler == counter.count
        bus.action("inside")
        raise KeyError
    bus.action("outside")
    assert counter.seen == ["inside"]


def test_a_handler_may_unregister_itself(bus: Bus) -> None:
    counter = Counter()

    def once(message: object) -> None:
        registration.unregister()
        counter.count(message)

    registration = bus.register_action(once)
    bus.action(1)
    bus.action(2)
    assert counter.seen == [1]


async def wait_for(_message: object) -> None: ...


class Waits:
    async def __call__(self, *_: object) -> None: ...

    async def wait(self, _message: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "kind", "why"),
    [
        ("text", object, "it is not callable"),
        (None, object, "it is not callable"),
        (wait_for, object, "it is async"),
        (Waits(), object, "it is async"),
        (partial(Waits(), 1), object, "it is async"),
        (Waits().wait, object, "it is async"),
        (print, "text", "'text' is not a type"),
        (print, (str, int), "is not a type"),
        (print, NoProtocolForRuntime, "runtime_checkable"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_at_once(
    bus: Bus, handler: Any, kind: Any, why: str
) -> None:
    for register in (bus.register_action, bus.register_query, bus.register_task):
        with pytest.raises(InvalidError, match=why) as caught:
            register(handler, kind)
        assert repr(handler) in str(caught.value)
    bus.action("nobody is there")


def test_registrations_from_many_threads_are_all_there(bus: Bus, in_threads: InThreads) -> None:
    seen: list[int] = []

    def hear(number: int, _message: object) -> None:
        seen.append(number)

    def register(thread: int) -> None:
        for number in range(thread * 100, thread * 100 + 100):
            bus.register_action(partial(hear, number))
            bus.register_action(partial(hear, -1)).unregister()

    in_threads(register, 4)
    bus.action("x")
    assert sorted(seen) == list(range(400))


def test_registrations_ended_in_many_threads_are_all_gone(bus: Bus, in_threads: InThreads) -> None:
    counters = [Counter() for _ in range(400)]
    registrations = [bus.register_action(counter.count) for counter in counters]
    seen: list[object] = []
    bus.register_action(seen.append)

    def unregister(thread: int) -> None:
        for registration in registrations[thread::4]:
            registration.unregister()

    in_threads(unregister, 4)
    bus.action("x")
    assert seen == ["x"]
    assert not any(counter.seen for counter in counters)


def test_handlers_get_messages_that_pass_as_their_type() -> None:
    class Virtual(abc.ABC):  # noqa: B024 - it is there to be registered with
        pass

    class Later:
        pass

    got: list[object] = []
    bus = Bus()
    bus.register_action(lambda _: got.append("moved"), Started)
    bus.register_action(lambda _: got.append("virtual"), Virtual)
    bus.action(Later())
    assert got == []
    Virtual.register(Later)
    bus.action(Later())
    assert got == ["virtual"]
    bus.action(Mock())
    bus.action(Mock(spec=Started))
    assert got == ["virtual", "moved"]


def test_types_that_come_once_are_not_kept_for_ever() -> None:
    bus = Bus()
    bus.register_action(lambda _: None, Started)
    first = type("Message", (), {})
    bus.action(first())
    gone = weakref.ref(first)
    del first
    for number in range(2_000):
        bus.action(type(f"Message{number}", (), {})())
    gc.collect()
    assert gone() is None
