"""A core against a simple model of it, whatever is done to it in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from core_infra.errors import AlreadyExistsError, NotFoundError, WrongStateError
from core_infra.framework import (
    DECLINED,
    ActionError,
    Core,
    Registration,
    ShutdownError,
    StartupError,
    UnhandledError,
    service_for,
    with_name,
)

NAMES = "abcd"
KINDS = {"any": object, "int": int, "bool": bool, "str": str}
MESSAGES = [7, True, "text", None]

handlers = st.integers(0, 3)
kinds = st.sampled_from(sorted(KINDS))
messages = st.sampled_from(MESSAGES)
faults = st.sets(st.sampled_from(NAMES), max_size=2)


class Fault(Exception):  # noqa: N818 - not an error: it is what the test wants
    """Raised on purpose; its argument says by whom."""


class Service:
    def __init__(self, name: str, machine: CoreMachine) -> None:
        self.name = name
        self.machine = machine

    def on_startup(self) -> None:
        self.note("start", self.machine.bad_starts)

    def on_shutdown(self) -> None:
        self.note("stop", self.machine.bad_stops)

    def note(self, verb: str, bad: set[str]) -> None:
        self.machine.happened.append((verb, self.name))
        if self.name in bad:
            raise Fault(self.name)


class Handler:
    """Notes each call; raises in actions, or declines in queries, as the machine says."""

    def __init__(self, number: int, machine: CoreMachine) -> None:
        self.number = number
        self.machine = machine

    def __call__(self, _message: object) -> Any:
        self.machine.called.append(self.number)
        if self.number in self.machine.raising:
            raise Fault(self.number)
        return DECLINED if self.number in self.machine.declining else self.number


class CoreMachine(RuleBasedStateMachine):
    @initialize(names=st.permutations(NAMES), count=st.integers(0, 4), starts=faults, stops=faults)
    def make(self, names: list[str], count: int, starts: set[str], stops: set[str]) -> None:
        self.names = names[:count]
        self.bad_starts, self.bad_stops = starts, stops
        self.raising: set[int] = set()
        self.declining: set[int] = set()
        self.happened: list[tuple[str, str]] = []
        self.called: list[int] = []
        self.handlers = [Handler(number, self) for number in range(4)]
        self.state = "made"
        self.registered: dict[str, dict[tuple[int, str], Registration]] = {
            verb: {} for verb in ("action", "query", "task")
        }
        self.core = Core(*[with_name(name, self.factory(name)) for name in self.names])

    def factory(self, name: str) -> Any:
        return lambda _core: Service(name, self)

    @rule()
    def start(self) -> None:
        if self.state != "made":
            return self.refused(self.core.start, "made")
        self.happened.clear()
        bad = next((name for name in self.names if name in self.bad_starts), None)
        if bad is None:
            self.core.start()
            assert self.happened == [("start", name) for name in self.names]
            self.state = "running"
            return None
        tried = self.names[: self.names.index(bad) + 1]
        stopped = tried[-2::-1]
        failing = [bad, *(name for name in stopped if name in self.bad_stops)]
        self.fails(self.core.start, StartupError, failing)
        starts = [("start", name) for name in tried]
        assert self.happened == starts + [("stop", name) for name in stopped]
        self.state = "stopped"
        return None

    @precondition(lambda self: self.state != "made")
    @rule()
    def shutdown(self) -> None:
        self.happened.clear()
        stopped = self.names[::-1] if self.state == "running" else []
        failing = [name for name in stopped if name in self.bad_stops]
        self.fails(self.core.shutdown, ShutdownError, failing)
        assert self.happened == [("stop", name) for name in stopped]
        self.state = "stopped"

    @rule(name=st.sampled_from(NAMES))
    def find(self, name: str) -> None:
        if self.state == "stopped":
            self.refused(lambda: service_for(self.core, name, Service), "made or running")
        elif name in self.names:
            assert service_for(self.core, name, Service).name == name
        else:
            self.raises(NotFoundError, lambda: service_for(self.core, name, Service))

    @rule(verb=st.sampled_from(["action", "query", "task"]), number=handlers, kind=kinds)
    def register(self, verb: str, number: int, kind: str) -> None:
        def call() -> Registration:
            method = getattr(self.core, f"register_{verb}")
            found: Registration = method(self.handlers[number], KINDS[kind])
            return found

        if self.state == "stopped":
            self.refused(call, "open")
        elif (number, kind) in self.registered[verb]:
            self.raises(AlreadyExistsError, call)
        else:
            self.registered[verb][number, kind] = call()

    @precondition(lambda self: any(self.registered.values()))
    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        places = [(verb, key) for verb, keys in self.registered.items() for key in keys]
        verb, key = data.draw(st.sampled_from(places))
        self.registered[verb].pop(key).unregister()

    @rule(raising=st.sets(handlers, max_size=2), declining=st.sets(handlers, max_size=3))
    def behave(self, raising: set[int], declining: set[int]) -> None:
        self.raising, self.declining = raising, declining

    @rule(message=messages)
    def action(self, message: object) -> None:
        if self.state == "stopped":
            return self.refused(lambda: self.core.action(message), "open")
        self.called.clear()
        expected = self.expected("action", message)
        failing = [number for number in expected if number in self.raising]
        self.fails(lambda: self.core.action(message), ActionError, failing)
        assert self.called == expected
        return None

    @rule(message=messages, verb=st.sampled_from(["query", "task"]))
    def ask(self, message: object, verb: str) -> None:
        ask = self.core.query if verb == "query" else self.core.perform
        if self.state == "stopped":
            return self.refused(lambda: ask(message), "open")
        self.called.clear()
        expected = self.expected(verb, message)
        silent = self.declining - self.raising
        last = next((n for n, number in enumerate(expected) if number not in silent), None)
        if last is None:
            self.raises(UnhandledError, lambda: ask(message))
            assert self.called == expected
            return None
        if expected[last] in self.raising:
            self.raises(Fault, lambda: ask(message))
        else:
            assert ask(message) == expected[last]
        assert self.called == expected[: last + 1]
        return None

    def expected(self, verb: str, message: object) -> list[int]:
        keys = self.registered[verb]
        return [number for number, kind in keys if isinstance(message, KINDS[kind])]

    def fails(self, call: Any, kind: type[Any], by: list[Any]) -> None:
        if not by:
            call()
            return
        error = self.raises(kind, call)
        assert [fault.args for fault in error.exceptions] == [(one,) for one in by]

    def refused(self, call: Any, needed: str) -> None:
        self.happened.clear()
        self.called.clear()
        error = self.raises(WrongStateError, call)
        found = "closed" if needed == "open" else self.state
        assert (error.needed, error.found) == (needed, found)
        assert (self.happened, self.called) == ([], [])

    @staticmethod
    def raises(kind: type[BaseException], call: Any) -> Any:
        try:
            call()
        except kind as error:
            return error
        raise AssertionError(kind)


TestCore = CoreMachine.TestCase
TestCore.settings = settings(max_examples=80, stateful_step_count=30)
