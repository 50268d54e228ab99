"""Specs run as processes: order, failures, limits, interruption."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.framework import Core
from core_infra.process import (
    InvalidGraphError,
    RunAllResult,
    RunFinished,
    RunInterruptedError,
    Runner,
    RunSpec,
    RunStarted,
    SpecFinished,
    SpecStarted,
)
from core_infra.process._errors import RunFailedError
from process_programs import program
from support import wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.process import RunEvent
    from core_infra.process._service import Service


async def nobody_awaits() -> None:
    """Never awaited."""


def sh(name: str, script: str, *after: str, **options: Any) -> RunSpec:
    return RunSpec(name, "sh", ["-c", script], after=after, **options)


def counts(result: RunAllResult) -> tuple[int, int, int]:
    return result.passed, result.failed, result.skipped


def test_dependencies_run_first_and_results_come_in_the_order_given(service: Service) -> None:
    order: list[str] = []
    specs = [
        RunSpec("third", call=lambda: order.append("third"), after=["second"]),
        RunSpec("first", call=lambda: order.append("first")),
        RunSpec("second", call=lambda: order.append("second"), after=["first"]),
    ]
    result = Runner(service, workers=3).run_all(specs)
    assert order == ["first", "second", "third"]
    assert [one.name for one in result.results] == ["third", "first", "second"]
    assert [one.spec for one in result.results] == specs
    assert result.success
    assert counts(result) == (3, 0, 0)


def test_what_a_command_did(service: Service, tmp_path: Path) -> None:
    spec = RunSpec(
        "all",
        "sh",
        ["-c", 'echo "$WORD $PWD"; printf "\\377" >&2; cat; exit 3'],
        dir=str(tmp_path),
        env={"WORD": "blue"},
    )
    (one,) = Runner(service).run_all([spec]).results
    assert one.output_bytes == f"blue {tmp_path}\n".encode() + b"\xff"
    assert one.output == f"blue {tmp_path}\n\ufffd"
    assert (one.exit_code, one.error, one.attempts) == (3, None, 1)
    assert one.failed
    assert not one.passed
    assert one.reason == "exit code 3"
    assert one.usage is not None
    assert 0 < one.duration < 60


def test_dependents_of_a_failure_are_skipped_and_say_why(service: Service) -> None:
    specs = [
        RunSpec("build", "false"),
        RunSpec("test", "true", after=["build"]),
        RunSpec("deploy", "true", after=["test"]),
        RunSpec("lint", "true"),
    ]
    result = Runner(service, workers=1).run_all(specs)
    assert counts(result) == (1, 1, 2)
    assert not result.success
    assert result["deploy"].skipped
    assert result["deploy"].cause == "build"
    assert result["deploy"].exit_code is None
    assert result["deploy"].reason == "'deploy' did not run: 'build' failed"
    assert [one.name for one in result.skipped_by("build")] == ["test", "deploy"]
    assert repr(result) == "<RunAllResult: 1 passed, 1 failed, 2 skipped; build: exit code 1>"


def test_what_may_fail_holds_nobody_up(service: Service) -> None:
    specs = [RunSpec("flaky", "false", allow_failure=True), RunSpec("b", "true", after=["flaky"])]
    result = Runner(service, keep_going=False).run_all(specs)
    assert counts(result) == (1, 1, 0)
    assert not result.success
    assert result.acceptable


def test_without_keep_going_nothing_more_starts(service: Service) -> None:
    specs = [RunSpec("a", "false"), RunSpec("b", "true")]
    result = Runner(service, workers=1, keep_going=False).run_all(specs)
    assert counts(result) == (0, 1, 1)
    assert result["b"].cause == "a"
    assert not result.acceptable


def test_sequential_keeps_the_order_given_and_stops_at_the_first_failure(service: Service) -> None:
    order: list[str] = []
    specs = [
        RunSpec("b", call=lambda: order.append("b"), after=["a"]),  # not looked at
        RunSpec("may", "false", allow_failure=True),
        RunSpec("a", call=lambda: order.append("a")),
        RunSpec("fails", "false"),
        RunSpec("c", call=lambda: order.append("c")),
    ]
    result = Runner(service, workers=4).run_sequential(specs)
    assert order == ["b", "a"]
    assert counts(result) == (2, 2, 1)
    assert result["c"].cause == "fails"
    assert Runner(service).run_sequential([]).success


def test_parallel_ignores_dependencies_and_failures(service: Service) -> None:
    together = threading.Barrier(3)
    specs = [
        RunSpec("a", call=lambda: together.wait(30), after=["b"]),
        RunSpec("b", call=lambda: together.wait(30), after=["nobody"]),
        RunSpec("c", call=lambda: together.wait(30), after=["c"]),
        RunSpec("fails", "false"),
    ]
    result = Runner(service, workers=3).run_parallel(specs)
    assert counts(result) == (3, 1, 0)


def test_no_more_run_at_once_than_there_are_workers_and_places(service: Service) -> None:
    lock, running, most = threading.Lock(), {"all": 0, "db": 0}, {"all": 0, "db": 0}

    def work(*kinds: str) -> None:
        for step in (1, -1):
            with lock:
                for kind in kinds:
                    running[kind] += step
                    most[kind] = max(most[kind], running[kind])

    free = [RunSpec(f"free{n}", call=lambda: work("all")) for n in range(40)]
    bound = [RunSpec(f"bound{n}", call=lambda: work("all", "db"), pools=["db"]) for n in range(40)]
    assert Runner(service, workers=3, pools={"db": 1}).run_all([*bound, *free]).success
    assert most["all"] <= 3
    assert most["db"] == 1


def test_a_worker_does_not_wait_for_others_of_its_wave(service: Service) -> None:
    go = threading.Event()
    specs = [
        RunSpec("slow", call=lambda: go.wait(30)),
        RunSpec("quick", "true"),
        RunSpec("next", call=go.set, after=["quick"]),  # runs while "slow" does
    ]
    result = Runner(service, workers=2).run_all(specs)
    assert result["slow"].value is True


def test_a_retry_until_it_passes(service: Service, tmp_path: Path) -> None:
    events: list[RunEvent] = []
    script = f"echo try >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) = 3"
    specs = [sh("flaky", script, retries=5), RunSpec("after", "true", after=["flaky"])]
    result = Runner(service, listener=events.append).run_all(specs)
    assert result.success
    assert result["flaky"].attempts == 3
    starts = [event for event in events if isinstance(event, SpecStarted)]
    assert [(one.spec.name, one.attempt) for one in starts] == [
        ("flaky", 1),
        ("flaky", 2),
        ("flaky", 3),
        ("after", 1),
    ]
    assert starts[1].previous is not None
    assert starts[1].previous.exit_code == 1


def test_an_end_is_published_before_the_starts_that_follow(service: Service) -> None:
    events: list[str] = []

    def listen(event: RunEvent) -> None:
        if isinstance(event, SpecStarted):
            events.append(f"start {event.spec.name}")
        elif isinstance(event, SpecFinished):
            events.append(f"end {event.result.name}")

    specs = [RunSpec("a", "true"), RunSpec("b", "true", after=["a"]), RunSpec("c", "true")]
    Runner(service, workers=1, listener=listen).run_all(specs)
    assert events == ["start a", "end a", "start b", "end b", "start c", "end c"]


@pytest.mark.parametrize("threads", [False, True], ids=["service", "executor"])
def test_a_retry_begins_when_what_the_failed_attempt_left_is_gone(
    service: Service, *, threads: bool
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = RunSpec("a", sys.executable, program("leaves_a_server", str(port))[1:], retries=3)
    with ThreadPoolExecutor(1) if threads else contextlib.nullcontext() as executor:
        one = Runner(service).run_all([spec], executor=executor)["a"]
    assert (one.attempts, one.exit_code, one.output) == (4, 7, "")


def test_retries_come_to_an_end(service: Service) -> None:
    result = Runner(service).run_all([RunSpec("never", "false", retries=2)])
    assert result["never"].attempts == 3
    assert result["never"].failed


def test_a_timeout_ends_all_that_was_started(service: Service, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    spec = sh("slow", f"echo early; sleep 60 & echo $! > {pids}; wait", timeout=0.5)
    one = Runner(service).run_all([spec])["slow"]
    assert one.failed
    assert isinstance(one.error, TimeoutExpiredError)
    assert "0.5 s" in one.reason
    assert one.output == "early\n"
    wait_gone(int(pids.read_text()))


def test_a_program_that_is_not_there(service: Service) -> None:
    specs = [RunSpec("a", "no-such-program-here"), RunSpec("b", "true", after=["a"])]
    result = Runner(service).run_all(specs)
    assert counts(result) == (0, 1, 1)
    assert "no-such-program-here" in result["a"].reason


def test_calls(service: Service) -> None:
    def fails() -> None:
        raise ValueError("wrong")

    specs = [
        RunSpec("value", call=lambda: 42),
        RunSpec("fails", call=fails),
        RunSpec("exits", call=lambda: sys.exit(2)),
        RunSpec("async", call=lambda: nobody_awaits()),  # noqa: PLW0108 - known only when called
        RunSpec("runs", call=lambda: service.run("sh", "-c", "echo said; exit 4")),
        RunSpec("skipped", call=fails, after=["fails"]),
    ]
    result = Runner(service).run_all(specs)
    assert result["value"].passed
    assert result["value"].value == 42
    assert isinstance(result["fails"].error, ValueError)
    assert isinstance(result["exits"].error, SystemExit)
    assert isinstance(result["runs"].error, RunFailedError)
    assert result["runs"].output == "said\n"
    assert "a coroutine, which is not awaited" in result["async"].reason
    assert counts(result) == (1, 4, 1)


def test_a_command_is_asked_to_end_by_its_own_signal_and_has_its_own_time(
    service: Service, tmp_path: Path
) -> None:
    script = f"trap 'echo bye; exit 3' INT; until test -e {tmp_path}/end; do sleep 0.01; done"
    spec = sh("a", script, timeout=0.3, stop_signal=signal.SIGINT, grace=60)
    one = Runner(service).run_all([spec])["a"]
    assert (one.exit_code, one.output) == (3, "bye\n")
    assert spec.options().grace_period == 60


def test_a_variable_can_be_taken_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "yes")
    spec = sh("a", 'echo "${GIVEN-none}"', env={"GIVEN": None})
    assert Runner(service).run_all([spec])["a"].output == "none\n"


def test_nothing_runs_if_anything_is_wrong(service: Service) -> None:
    ran = threading.Event()
    specs = [RunSpec("fine", call=ran.set), RunSpec("a", "true", after=["a"])]
    with pytest.raises(InvalidGraphError, match="a -> a"):
        Runner(service).run_all(specs)
    assert not ran.is_set()
    with pytest.raises(InvalidError, match="0 workers"):
        Runner(service, workers=0)


def test_no_specs_at_all(service: Service) -> None:
    result = Runner(service).run_all([])
    assert result.success
    assert result.acceptable
    assert result.results == ()


def test_events_reach_a_bus(service: Service) -> None:
    core, events = Core(), list[object]()
    core.register_action(events.append)
    specs = [RunSpec("a", "false"), RunSpec("b", "true", after=["a"])]
    result = Runner(service, workers=1, listener=core.action).run_all(specs)
    assert [type(event) for event in events] == [
        RunStarted,
        SpecStarted,
        SpecFinished,
        SpecFinished,
        RunFinished,
    ]
    assert events[-1] == RunFinished(result)


def test_what_a_listener_raises_ends_the_run_and_comes_out(service: Service) -> None:
    def listen(event: object) -> None:
        if isinstance(event, SpecFinished):
            raise OSError("broken")

    specs = [RunSpec("quick", "true"), RunSpec("long", "sleep", ["60"])]
    with pytest.raises(OSError, match="broken"):
        Runner(service, workers=2, listener=listen).run_all(specs)
    assert not service.running()


def test_ctrl_c_ends_what_runs_and_reports(service: Service, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    events: list[RunEvent] = []
    specs = [
        RunSpec("quick", "true"),
        sh("long", f"sleep 60 & echo $! > {pids}; wait", retries=3),
        RunSpec(
            "ctrl-c", call=lambda: os.kill(os.getpid(), signal.SIGINT), after=["quick", "started"]
        ),
        sh("started", f"until test -s {pids}; do sleep 0.01; done"),
        RunSpec("later", "true", after=["long"]),
    ]
    with pytest.raises(RunInterruptedError) as caught:
        Runner(service, workers=3, listener=events.append).run_all(specs)
    result = caught.value.result
    assert isinstance(caught.value, KeyboardInterrupt)
    assert result.interrupted
    assert result["quick"].passed
    assert result["long"].exit_code == -signal.SIGTERM
    assert result["long"].attempts == 1
    assert result["later"].reason == "'later' did not run: the run was interrupted"
    assert events[-1] == RunFinished(result)
    wait_gone(int(pids.read_text()))


def test_ctrl_c_ends_many_in_one_grace_period(service: Service, tmp_path: Path) -> None:
    # Each ignores SIGTERM: one after another they would take a minute.
    script = f"trap '' TERM; echo > {tmp_path}/$$; while :; do sleep 0.1; done"
    count = 20

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < count:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    specs = [sh(f"stubborn{number}", script) for number in range(count)]
    specs.append(RunSpec("ctrl-c", call=interrupt))
    with pytest.raises(RunInterruptedError) as caught:
        Runner(service, workers=count + 1).run_all(specs)
    ends = [one for one in caught.value.result.results if one.name != "ctrl-c"]
    assert {one.exit_code for one in ends} == {-signal.SIGKILL}
    latest = max(one.started + one.duration for one in ends)
    earliest = min(one.started + one.duration for one in ends)
    assert latest - earliest < count * ends[0].spec.options().grace_period / 2


class Listens:
    async def __call__(self, _event: object) -> None: ...


@pytest.mark.parametrize("listener", [5, Listens(), Listens().__call__])
def test_a_listener_that_cannot_be_called_is_refused(service: Service, listener: Any) -> None:
    with pytest.raises(InvalidError, match="it must be a function, and not an async one"):
        Runner(service, listener=listener)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"durations": "x"}, "durations is 'x': it must be a Durations"),
        ({"freshness": 1}, "freshness is 1: it must be a Freshness"),
        ({"pools": ["db"]}, "pools is \\['db'\\]: it must be a dict"),
        ({"pools": {1: 1}}, "the pool 1 cannot have 1 places"),
        ({"pools": {"db": "x"}}, "the pool 'db' cannot have 'x' places"),
        ({"pools": {"db": True}}, "the pool 'db' cannot have True places"),
        ({"pools": {"db": 0}}, "the pool 'db' cannot have 0 places"),
    ],
)
def test_an_argument_of_another_kind_is_refused(
    service: Service, arguments: Any, message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        Runner(service, **arguments)


def test_what_is_no_executor_is_refused(service: Service) -> None:
    executor: Any = 5
    with pytest.raises(InvalidError, match="executor is 5: it must be an Executor"):
        Runner(service).run_all([RunSpec("a", "true")], executor=executor)
