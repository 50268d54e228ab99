"""How a run is ended from outside, and what cleans up after it."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.process import (
    Cancellation,
    InvalidGraphError,
    RunAllTimeoutError,
    RunInterruptedError,
    Runner,
    RunSpec,
    SpecFinished,
    SpecStarted,
)
from support import wait_gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.process import RunAllResult
    from core_infra.process._service import Service


def sh(name: str, script: str, *after: str, **options: Any) -> RunSpec:
    return RunSpec(name, "sh", ["-c", script], after=after, **options)


def states(result: RunAllResult) -> dict[str, str]:
    return {
        one.name: "passed" if one.passed else "skipped" if one.skipped else "failed"
        for one in result.results
    }


def test_a_timeout_ends_the_run_politely_and_has_its_result(
    service: Service, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    specs = [
        RunSpec("quick", "true"),
        sh("long", f"trap 'echo bye; exit 0' TERM; sleep 60 & echo $! > {pids}; wait", "quick"),
        RunSpec("later", "true", after=["long"]),
    ]
    with pytest.raises(RunAllTimeoutError, match="within 1 s") as caught:
        Runner(service, workers=2).run_all(specs, timeout=1)
    error: RunAllTimeoutError = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert isinstance(error, TimeoutExpiredError)
    assert error.timeout == 1
    assert error.result.interrupted
    assert caught.value.result["long"].output == "bye\n"
    assert (
        caught.value.result["later"].reason == "'later' did not run: the time for the run was over"
    )
    wait_gone(int(pids.read_text()))


def test_a_run_that_ends_in_time_is_as_without_a_timeout(service: Service) -> None:
    result = Runner(service).run_all([RunSpec("a", "true")], timeout=600, cancel=Cancellation())
    assert result.success
    assert not result.interrupted


@pytest.mark.parametrize("executor", [False, True], ids=["service", "executor"])
def test_a_cancelled_run_ends_and_returns_its_result(service: Service, *, executor: bool) -> None:
    cancel = Cancellation()
    specs = [
        RunSpec("long", "sleep", ["600"], retries=2),
        RunSpec("cancel", call=cancel.cancel),
        RunSpec("later", "true", after=["long"]),
    ]
    with ThreadPoolExecutor(2) as threads:
        result = Runner(service, workers=2).run_all(
            specs, executor=threads if executor else None, cancel=cancel
        )
    assert cancel.cancelled
    assert result.interrupted
    assert result["long"].attempts == 1
    assert result["later"].reason == "'later' did not run: the run was cancelled"


@pytest.mark.parametrize("method", [Runner.run_all, Runner.run_sequential, Runner.run_parallel])
def test_what_is_cancelled_before_it_begins_runs_nothing(
    service: Service, method: Callable[..., RunAllResult]
) -> None:
    cancel = Cancellation()
    cancel.cancel()
    cancel.cancel()
    ran = threading.Event()
    specs = [RunSpec("a", call=ran.set), RunSpec("b", "true")]
    result = method(Runner(service), specs, cancel=cancel)
    assert states(result) == {"a": "skipped", "b": "skipped"}
    assert result.interrupted
    assert not ran.is_set()


@pytest.mark.parametrize("method", [Runner.run_all, Runner.run_sequential, Runner.run_parallel])
def test_a_call_that_does_not_return_is_given_up(
    service: Service, method: Callable[..., RunAllResult]
) -> None:
    hangs = threading.Event()
    specs = [RunSpec("hangs", call=hangs.wait, grace=0)]
    try:
        with pytest.raises(RunAllTimeoutError) as caught:
            method(Runner(service), specs, timeout=0.1)
        assert "abandoned" in caught.value.result["hangs"].reason
    finally:
        hangs.set()


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": "1"}, {"cancel": "now"}])
def test_what_cannot_end_a_run(service: Service, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=next(iter(options))):
        Runner(service).run_all([], **options)


def test_what_cleans_up_runs_after_all_else_whatever_came_of_it(service: Service) -> None:
    order: list[str] = []
    specs = [
        RunSpec("fails", "false"),
        RunSpec("skipped", "true", after=["fails"]),
        RunSpec("slow", call=lambda: order.append("slow")),
    ]
    cleanup = [
        RunSpec("second", call=lambda: order.append("second"), after=["first"]),
        RunSpec("first", call=lambda: order.append("first")),
        RunSpec("flaky", "false"),
        RunSpec("other", "true"),
    ]
    result = Runner(service, workers=2).run_all(specs, cleanup=cleanup)
    assert order == ["slow", "first", "second"]
    assert states(result) == {
        "fails": "failed",
        "skipped": "skipped",
        "slow": "passed",
        "second": "passed",
        "first": "passed",
        "flaky": "failed",
        "other": "passed",
    }
    assert not result.acceptable


def test_names_are_unique_with_those_of_what_cleans_up(service: Service) -> None:
    with pytest.raises(InvalidGraphError, match="two specs are named 'a'"):
        Runner(service).run_all([RunSpec("a", "true")], cleanup=[RunSpec("a", "true")])


def test_what_cleans_up_runs_after_a_timeout_and_a_cancellation(service: Service) -> None:
    ran: list[str] = []
    cleanup = [RunSpec("cleanup", call=lambda: ran.append("cleanup"))]
    with pytest.raises(RunAllTimeoutError) as caught:
        Runner(service).run_all([RunSpec("a", "sleep", ["600"])], timeout=0.1, cleanup=cleanup)
    assert caught.value.result["cleanup"].passed
    cancel = Cancellation()
    cancel.cancel()
    result = Runner(service).run_all([RunSpec("a", "true")], cancel=cancel, cleanup=cleanup)
    assert states(result) == {"a": "skipped", "cleanup": "passed"}
    assert ran == ["cleanup"] * 2


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_ends_what_cleans_up(service: Service) -> None:
    specs = [RunSpec("long", "sleep", ["600"]), RunSpec("ctrl-c", call=interrupt)]
    cleanup = [
        RunSpec("quick", "true"),
        RunSpec("ctrl-c again", call=interrupt, after=["quick"]),
        RunSpec("endless", "sleep", ["600"], after=["quick"]),
        RunSpec("after", "true", after=["endless"]),
    ]
    with pytest.raises(RunInterruptedError) as caught:
        Runner(service, workers=2).run_all(specs, cleanup=cleanup)
    result = caught.value.result
    assert result["quick"].passed
    assert result["endless"].exit_code in {-signal.SIGTERM, None}  # or it was not even started
    assert result["after"].skipped
    assert not service.running()


def test_a_second_ctrl_c_kills_what_does_not_end(service: Service, tmp_path: Path) -> None:
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    script = f"trap 'echo > {asked}' TERM; echo > {ready}; while :; do sleep 0.01; done"

    def press_twice() -> None:
        for file in (ready, asked):
            while not file.exists():
                threading.Event().wait(0.01)
            interrupt()

    specs = [sh("stubborn", script, grace=600), RunSpec("ctrl-c", call=press_twice)]
    cleanup = [RunSpec("cleanup", "true")]
    with pytest.raises(RunInterruptedError) as caught:
        Runner(service, workers=2).run_all(specs, cleanup=cleanup)
    assert caught.value.result["stubborn"].exit_code == -signal.SIGKILL
    assert caught.value.result["cleanup"].passed


@pytest.mark.parametrize("breaks", [SpecStarted, SpecFinished])
def test_what_cleans_up_runs_though_the_listener_is_broken(
    service: Service, breaks: type[object]
) -> None:
    ran: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, breaks):
            raise OSError("broken")

    cleanup = [
        RunSpec("a", call=lambda: ran.append("a")),
        RunSpec("b", call=lambda: ran.append("b"), after=["a"]),
    ]
    with pytest.raises(OSError, match="broken"):
        Runner(service, listener=listen).run_all([], cleanup=cleanup)
    assert ran == ["a", "b"]
    with pytest.raises(OSError, match="broken"):
        Runner(service, listener=listen).run_all([RunSpec("c", "true")], cleanup=cleanup)
    assert ran == ["a", "b"] * 2
