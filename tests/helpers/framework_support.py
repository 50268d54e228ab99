"""Messages, handlers and services that record what happens to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.framework import (
    Core,
    NamedFactory,
    with_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    InThreads = Callable[[Callable[[int], None], int], None]


@dataclass(frozen=True)
class Started:
    name: str


class Counter:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def count(self, message: object) -> None:
        self.seen.append(message)


class Diary:
    """Makes services that write down what happens to them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def service(
        self,
        name: str,
        *,
        startup: BaseException | None = None,
        shutdown: BaseException | None = None,
    ) -> NamedFactory:
        def factory(core: Core) -> Noted:
            self.lines.append(f"make {name}")
            return Noted(self, core, name, startup, shutdown)

        return with_name(name, factory)


class Noted:
    def __init__(
        self,
        diary: Diary,
        core: Core,
        name: str,
        startup: BaseException | None,
        shutdown: BaseException | None,
    ) -> None:
        self.diary = diary
        self.core = core
        self.name = name
        self.startup = startup
        self.shutdown = shutdown

    def on_startup(self) -> None:
        self.diary.lines.append(f"start {self.name}")
        if self.startup:
            raise self.startup

    def on_shutdown(self) -> None:
        self.diary.lines.append(f"stop {self.name}")
        if self.shutdown:
            raise self.shutdown
