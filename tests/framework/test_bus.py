"""Actions, queries and tasks, and the handlers that they come to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import NotFoundError
from core_infra.framework import DECLINED, ActionError, Bus, UnhandledError
from framework_support import Counter, Started

if TYPE_CHECKING:
    from collections.abc import Callable

    InThreads = Callable[[Callable[[int], None], int], None]


class RestartedByHand(Started):
    """A kind of Started."""


def failing(error: BaseException) -> Callable[[object], None]:
    def handler(_message: object) -> None:
        raise error

    return handler


def test_an_action_comes_to_every_handler_in_the_order_of_registration(bus: Bus) -> None:
    seen: list[tuple[str, object]] = []

    def note(name: str, message: object) -> None:
        seen.append((name, message))

    for name in "abc":
        bus.register_action(partial(note, name))
    bus.action("hello")
    assert seen == [("a", "hello"), ("b", "hello"), ("c", "hello")]


@pytest.mark.parametrize("message", [None, 0, "", [], object(), {"a": 1}, Started, Started("x")])
def test_any_object_is_a_message(bus: Bus, message: object) -> None:
    counter = Counter()
    bus.register_action(counter.count)
    bus.register_query(lambda question: [question])
    bus.register_task(lambda task: [task])
    bus.action(message)
    assert counter.seen[0] is message
    assert bus.query(message) == bus.perform(message) == [message]


def test_an_action_without_handlers_is_fine(bus: Bus) -> None:
    bus.action("hello")


def test_every_handler_runs_and_the_errors_come_back_together(bus: Bus) -> None:
    before, between, after = Counter(), Counter(), Counter()
    first, second = ValueError("bad"), NotFoundError("no file", why="it was deleted")
    bus.register_action(before.count)
    bus.register_action(failing(first))
    bus.register_action(between.count)
    bus.register_action(failing(second))
    bus.register_action(after.count)
    with pytest.raises(ActionError) as caught:
        bus.action(Started("x"))
    assert caught.value.exceptions == (first, second)
    assert caught.value.action == Started("x")
    assert before.seen == between.seen == after.seen == [Started("x")]
    assert str(caught.value) == (
        "handlers of the action Started(name='x') failed: "
        "ValueError: bad; NotFoundError: no file: it was deleted"
    )


def test_a_plain_handler_around_an_async_one_is_an_error(bus: Bus) -> None:
    async def wait_for(_message: object) -> None: ...

    bus.register_action(lambda message: wait_for(message))  # noqa: PLW0108 - a wrapper
    sends: list[Callable[[], None]] = [lambda: bus.action("x"), lambda: bus.actions(["x", "y"])]
    for send in sends:
        with pytest.raises(ActionError) as caught:
            send()
        assert "a coroutine, which is not awaited" in str(caught.value)


def test_one_error_is_a_group_as_well(bus: Bus) -> None:
    bus.register_action(failing(ValueError("bad")))
    with pytest.raises(ActionError) as caught:
        bus.action("x")
    assert len(caught.value.exceptions) == 1


@pytest.mark.parametrize("fatal", [KeyboardInterrupt(), SystemExit(2), GeneratorExit()])
def test_a_base_exception_passes_at_once_and_loses_no_error(bus: Bus, fatal: BaseException) -> None:
    counter = Counter()
    earlier = ValueError("bad")
    bus.register_action(failing(earlier))
    bus.register_action(failing(fatal))
    bus.register_action(counter.count)
    with pytest.raises(type(fatal)) as caught:
        bus.action("x")
    assert caught.value is fatal
    assert isinstance(fatal.__cause__, ActionError)
    assert fatal.__cause__.exceptions == (earlier,)
    assert counter.seen == []


def test_a_fatal_error_alone_keeps_its_own_cause(bus: Bus) -> None:
    fatal, cause = KeyboardInterrupt(), OSError("why")
    fatal.__cause__ = cause
    bus.register_action(failing(fatal))
    with pytest.raises(KeyboardInterrupt):
        bus.action("x")
    assert fatal.__cause__ is cause


def test_two_handlers_that_send_without_end_come_to_an_end(bus: Bus) -> None:
    # If a RecursionError were kept for later like others, each depth would try once more, and the
    # number of calls would double with each depth.
    calls = Counter()

    def again(message: object) -> None:
        calls.count(message)
        if len(calls.seen) > 10_000:
            pytest.fail("no end in sight")
        bus.action(message)

    bus.register_action(again)
    bus.register_action(bus.action)
    with pytest.raises(RecursionError):
        bus.action("x")


def test_a_handler_may_send_and_ask(bus: Bus) -> None:
    seen: list[object] = []

    def count_down(number: int) -> None:
        seen.append(number)
        if number:
            bus.action(bus.query(number))

    bus.register_action(count_down, int)
    bus.register_query(lambda number: number - 1, int)
    bus.action(3)
    assert seen == [3, 2, 1, 0]


def test_a_kind_selects_messages_and_its_subclasses(bus: Bus) -> None:
    counter, plain = Counter(), Counter()
    bus.register_action(counter.count, Started)
    bus.register_action(plain.count)
    sent = [Started("a"), "other", None, RestartedByHand("b"), Started]
    for message in sent:
        bus.action(message)
    assert counter.seen == [Started("a"), RestartedByHand("b")]
    assert plain.seen == sent


def test_the_first_handler_that_does_not_decline_answers(bus: Bus) -> None:
    asked: list[str] = []

    def handler(name: str, answer: object) -> Callable[[object], object]:
        def call(_message: object) -> object:
            asked.append(name)
            return answer

        return call

    for register, send in ((bus.register_query, bus.query), (bus.register_task, bus.perform)):
        asked.clear()
        register(handler("a", DECLINED))
        register(handler("b", 1))
        register(handler("c", 2))
        assert send("x") == 1
        assert asked == ["a", "b"]


@pytest.mark.parametrize("answer", [None, False, 0, "", [], NotImplemented])
def test_every_value_but_declined_is_an_answer(bus: Bus, answer: object) -> None:
    for register, send in ((bus.register_query, bus.query), (bus.register_task, bus.perform)):
        register(lambda _message: answer)
        register(lambda _message: "later")
        assert send("x") is answer
    assert bus.query("x", "default") is answer


def test_a_handler_of_another_kind_declines(bus: Bus) -> None:
    bus.register_query(lambda _: "text", str)
    bus.register_query(lambda _: None, Started)
    assert bus.query("x") == "text"
    assert bus.query(Started("x"), "default") is None
    with pytest.raises(UnhandledError):
        bus.query(7)


def test_an_unanswered_query_is_an_error_that_names_the_message(bus: Bus) -> None:
    bus.register_query(lambda _: DECLINED)
    bus.register_action(lambda _: "an action's handler answers nothing")
    for send, what in ((bus.query, "answered the query"), (bus.perform, "took the task")):
        with pytest.raises(NotFoundError, match=what) as caught:
            send(Started("x"))
        assert type(caught.value) is UnhandledError
        assert caught.value.message == Started("x")
        assert "Started(name='x')" in str(caught.value)


@pytest.mark.parametrize("default", [None, 0, "text"])
def test_a_query_may_have_a_default(bus: Bus, default: object) -> None:
    assert bus.query("x", default) is default


def test_what_a_handler_of_queries_or_tasks_raises_comes_as_it_is(bus: Bus) -> None:
    later = Counter()
    for register, send in ((bus.register_query, bus.query), (bus.register_task, bus.perform)):
        register(failing(KeyError("k")))
        register(later.count)
        with pytest.raises(KeyError):
            send("x")
    with pytest.raises(KeyError):
        bus.query("x", "default")
    assert later.seen == []


def test_actions_queries_and_tasks_do_not_mix(bus: Bus) -> None:
    bus.register_action(lambda _: "action")
    bus.register_query(lambda _: "query")
    bus.register_task(lambda _: "task")
    assert (bus.query("x"), bus.perform("x")) == ("query", "task")


def test_a_round_that_has_begun_is_finished_as_it_began(bus: Bus) -> None:
    first, last, new = Counter(), Counter(), Counter()

    def change(_message: object) -> None:
        registrations.pop().unregister()
        bus.register_action(new.count)

    bus.register_action(first.count)
    changing = bus.register_action(change)
    registrations = [bus.register_action(last.count)]
    bus.action("now")
    assert (first.seen, last.seen, new.seen) == (["now"], ["now"], [])
    changing.unregister()
    bus.action("then")
    assert (first.seen, last.seen, new.seen) == (["now", "then"], ["now"], ["then"])


class Grumpy:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("message", ["x" * 1_000_000, list(range(100_000)), Grumpy()])
def test_errors_show_any_message_and_stay_short(bus: Bus, message: object) -> None:
    with pytest.raises(UnhandledError) as caught:
        bus.perform(message)
    assert len(str(caught.value)) < 500
    bus.register_action(failing(ValueError("bad")))
    with pytest.raises(ActionError) as group:
        bus.action(message)
    assert len(str(group.value)) < 500
    assert group.value.action is message


def test_a_handler_hears_everything_while_others_come_and_go(
    bus: Bus, in_threads: InThreads
) -> None:
    heard: list[object] = []
    bus.register_action(heard.append)
    bus.register_query(lambda message: message)

    def send(thread: int) -> None:
        for number in range(300):
            with bus.register_action(lambda _message: None):
                bus.action((thread, number))
            assert bus.query(number) == number

    in_threads(send, 4)
    assert sorted(map(repr, heard)) == sorted(
        repr((thread, number)) for thread in range(4) for number in range(300)
    )


def test_many_actions_end_with_the_one_that_fails_and_go_on_when_given_again() -> None:
    core, seen = Bus(), list[object]()

    def refuse(message: object) -> None:
        if message == 2:
            raise ValueError(message)

    core.register_action(refuse)
    core.register_action(seen.append)
    messages = iter([1, 2, 3])
    with pytest.raises(ActionError) as caught:
        core.actions(messages)
    assert caught.value.action == 2
    assert seen == [1, 2]
    core.actions(messages)
    assert seen == [1, 2, 3]
