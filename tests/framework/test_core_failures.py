"""Services that fail or are interrupted: all others are shut down, and no error is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import WrongStateError
from core_infra.framework import (
    Core,
    CoreStatus,
    ShutdownError,
    StartupError,
    with_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from framework_support import Diary

    InThreads = Callable[[Callable[[int], None], int], None]


def test_a_factory_that_raises_is_the_error_with_a_note(diary: Diary) -> None:
    handed: list[Core] = []

    def factory(core: Core) -> object:
        handed.append(core)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        Core(diary.service("a"), with_name("b", factory), diary.service("c"))
    assert caught.value.__notes__ == ["while creating the service 'b'"]
    assert diary.lines == ["make a"]
    with pytest.raises(WrongStateError):
        handed[0].action("x")


def test_a_service_that_fails_to_start_has_the_started_ones_shut_down(diary: Diary) -> None:
    first, second = OSError("no start"), ValueError("no end")
    core = Core(
        diary.service("a", shutdown=second),
        diary.service("b"),
        diary.service("c", startup=first),
        diary.service("d"),
    )
    diary.lines.clear()
    with pytest.raises(StartupError) as caught:
        core.start()
    assert diary.lines == ["start a", "start b", "start c", "stop b", "stop a"]
    assert caught.value.exceptions == (first, second)
    assert caught.value.service == "c"
    assert str(caught.value) == (
        "cannot start the service 'c': OSError: no start; ValueError: no end"
    )
    assert first.__notes__ == ["while starting the service 'c'"]
    assert second.__notes__ == ["while shutting down the service 'a'"]
    assert core.status is CoreStatus.STOPPED


def test_a_with_block_whose_start_fails_is_not_entered(diary: Diary) -> None:
    with pytest.raises(StartupError), Core(diary.service("a", startup=OSError())):
        diary.lines.append("inside")
    assert diary.lines == ["make a", "start a"]


def test_all_services_are_shut_down_and_their_errors_come_together(diary: Diary) -> None:
    errors = {name: ValueError(name) for name in "abc"}
    core = Core(*[diary.service(name, shutdown=errors.get(name)) for name in "abcd"])
    core.start()
    diary.lines.clear()
    with pytest.raises(ShutdownError) as caught:
        core.shutdown()
    assert diary.lines == ["stop d", "stop c", "stop b", "stop a"]
    assert caught.value.exceptions == (errors["c"], errors["b"], errors["a"])
    assert errors["a"].__notes__ == ["while shutting down the service 'a'"]
    assert core.status is CoreStatus.STOPPED


@pytest.mark.parametrize("fatal", [KeyboardInterrupt(), SystemExit(2)])
def test_an_interrupted_start_shuts_down_and_passes(diary: Diary, fatal: BaseException) -> None:
    error = ValueError("no end")
    core = Core(diary.service("a", shutdown=error), diary.service("b", startup=fatal))
    with pytest.raises(type(fatal)) as caught:
        core.start()
    assert caught.value is fatal
    assert diary.lines[2:] == ["start a", "start b", "stop a"]
    assert isinstance(fatal.__cause__, StartupError)
    assert fatal.__cause__.exceptions == (error,)


def test_an_interrupted_shutdown_goes_on_and_then_passes(diary: Diary) -> None:
    error, fatal = ValueError("no end"), KeyboardInterrupt()
    core = Core(
        diary.service("a"), diary.service("b", shutdown=error), diary.service("c", shutdown=fatal)
    )
    core.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        core.shutdown()
    assert diary.lines[-3:] == ["stop c", "stop b", "stop a"]
    assert isinstance(caught.value.__cause__, ShutdownError)
    assert caught.value.__cause__.exceptions == (error,)
    assert core.status is CoreStatus.STOPPED


def test_an_interrupted_factory_passes_and_ends_the_core(diary: Diary) -> None:
    def factory(_core: Core) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Core(diary.service("a"), with_name("b", factory))


def test_an_interrupted_block_is_not_hidden_by_a_failing_shutdown(diary: Diary) -> None:
    error = ValueError("no end")
    with pytest.raises(KeyboardInterrupt) as caught, Core(diary.service("a", shutdown=error)):
        raise KeyboardInterrupt
    assert isinstance(caught.value.__cause__, ShutdownError)
    assert caught.value.__cause__.exceptions == (error,)


def test_a_failing_block_and_a_failing_shutdown_are_both_reported(diary: Diary) -> None:
    with (
        pytest.raises(ShutdownError) as caught,
        Core(diary.service("a", shutdown=ValueError("no end"))),
    ):
        raise AssertionError
    assert isinstance(caught.value.__context__, AssertionError)


def test_a_failing_block_is_the_error_when_the_shutdown_succeeds(diary: Diary) -> None:
    with pytest.raises(ZeroDivisionError), Core(diary.service("a")):
        raise ZeroDivisionError
    assert diary.lines[-1] == "stop a"
