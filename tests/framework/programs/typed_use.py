"""What a type checker knows about a user's code; test_typing.py has mypy look at it.

A line with an ignore must be refused: mypy --strict complains of an ignore that is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from core_infra.framework import (
    DECLINED,
    Bus,
    Core,
    Declined,
    NamedFactory,
    Registration,
    Request,
    Startable,
    Stoppable,
    service_for,
    with_name,
)


@dataclass(frozen=True)
class Lines(Request[list[str]]):
    path: str


@dataclass(frozen=True)
class Note:
    text: str


class Store:
    def __init__(self, core: Core) -> None:
        self.core = core

    def on_startup(self) -> None: ...

    def on_shutdown(self) -> None: ...


def make_store(_size: int) -> Store:
    raise NotImplementedError


def on_note(note: Note) -> None: ...


def on_anything(message: object) -> None: ...


def lines_of(query: Lines) -> list[str] | Declined:
    answer: list[str] | Declined = [query.path] if query.path else DECLINED
    if answer is DECLINED:
        return DECLINED
    assert_type(answer, list[str])
    return answer


def services() -> None:
    assert_type(with_name("store", Store), NamedFactory)
    with Core(with_name("store", Store), with_name("seven", lambda core: core.status)) as core:
        assert_type(core, Core)
        store = service_for(core, "store", Store)
        assert_type(store, Store)
        assert_type(core.service("store"), object)
    startable: Startable = store
    stoppable: Stoppable = store
    bus: Bus = core
    del startable, stoppable, bus
    with_name("store", make_store)  # type: ignore[arg-type]
    with_name("store", store)  # type: ignore[arg-type]
    Core(Store)  # type: ignore[arg-type]
    store.size  # type: ignore[attr-defined] # noqa: B018


def messages(bus: Bus) -> None:
    assert_type(bus.register_action(on_anything), Registration)
    assert_type(bus.register_action(on_note, Note), Registration)
    bus.register_action(on_note)  # type: ignore[arg-type]
    bus.register_action(on_note, Lines)  # type: ignore[arg-type]
    bus.register_action(lambda note: note.text, Note)
    bus.register_query(lines_of, Lines)
    bus.register_task(lines_of)  # type: ignore[arg-type]
    bus.register_action(7)  # type: ignore[call-overload]

    assert_type(bus.query(Lines("a")), list[str])
    assert_type(bus.query(Lines("a"), None), list[str] | None)
    assert_type(bus.perform(Lines("a")), list[str])
    assert_type(bus.query(Note("a")), Any)
    assert_type(bus.query(Note("a"), None), Any)
    assert_type(bus.perform("a"), Any)
    bus.query(Lines("a")).upper()  # type: ignore[attr-defined]
