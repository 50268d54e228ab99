"""The one service of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra import process
from core_infra.errors import AlreadyExistsError, InvalidError, WrongStateError
from core_infra.framework import Core
from core_infra.process import (
    ActionProcessExited,
    RunOptions,
    Service,
    ServiceNotInitializedError,
    _default_service,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_default_service, "_default", None)
    yield
    if _default_service._default is not None:
        _default_service._default.shutdown()


@pytest.mark.parametrize(
    "call",
    [
        process.default,
        lambda: process.start("true"),
        lambda: process.start_with_options(RunOptions("true")),
        lambda: process.run("true"),
        lambda: process.run_with_options(RunOptions("true")),
        lambda: process.get("proc-1"),
        process.list,
        process.running,
        lambda: process.kill("proc-1"),
        lambda: process.remove("proc-1"),
        process.clear,
        lambda: process.output("proc-1"),
    ],
)
def test_nothing_goes_before_init(call: Callable[[], object]) -> None:
    with pytest.raises(ServiceNotInitializedError, match="init"):
        call()


def test_it_does_what_a_service_does() -> None:
    core = Core()
    ended: list[ActionProcessExited] = []
    core.register_action(ended.append, ActionProcessExited)
    service = process.init(core)
    assert process.default() is service
    assert process.run("echo", "hi") == "hi\n"
    assert process.run_with_options(RunOptions("cat", stdin="text")) == "text"
    sleeper = process.start("sleep", "60")
    assert process.get(sleeper.id) is sleeper
    assert process.list() == process.running() == [sleeper]
    process.kill(sleeper.id)
    process.remove(sleeper.id)
    other = process.start_with_options(RunOptions("echo", ["other"]))
    other.wait(30)
    assert process.output(other.id) == "other\n"
    process.clear()
    assert process.list() == []
    assert [event.exit_code for event in ended] == [0, 0, -9, 0]


def test_there_is_one_only() -> None:
    process.init(Core())
    with pytest.raises(AlreadyExistsError):
        process.init(Core())


def test_it_can_be_replaced_but_not_by_nothing() -> None:
    with Service() as service:
        process.set_default(service)
        assert process.default() is service
        with pytest.raises(InvalidError, match="None"):
            process.set_default(None)  # type: ignore[arg-type]
        assert process.run("echo", "hi") == "hi\n"
    with pytest.raises(WrongStateError):
        process.run("true")
