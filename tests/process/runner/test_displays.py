"""Displays and reports of a run."""

from __future__ import annotations

import contextlib
import io
import json
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from core_infra.process import (
    RunAllResult,
    RunFinished,
    Runner,
    RunResult,
    RunSpec,
    RunStarted,
    SpecFinished,
    SpecStarted,
)
from core_infra.process._runner import formatting, reports
from core_infra.process._runner.live_display import LiveDisplay
from core_infra.process._runner.text_display import LogDisplay

if TYPE_CHECKING:
    from core_infra.process._service import Service


def sh(name: str, script: str, *after: str, **options: Any) -> RunSpec:
    return RunSpec(name, "sh", ["-c", script], after=after, **options)


SPECS = [
    RunSpec("deploy", "true", after=["test"]),
    sh("test", "echo sure; exit 3", "flaky"),
    sh("flaky", "echo hm; exit 1", "build", allow_failure=True, retries=1),
    sh("build", "echo built; echo '<&\a\"' >&2"),
    RunSpec("call", call=int),
]


@pytest.fixture
def result(service: Service) -> RunAllResult:
    return Runner(service, workers=1).run_all(SPECS)


def test_a_log_groups_output_and_shows_root_causes_first_and_last(service: Service) -> None:
    stream = io.StringIO()
    Runner(service, workers=1, listener=LogDisplay(stream)).run_all(SPECS)
    text = stream.getvalue()
    head, flaky, test, totals = text.split("\n\n")
    assert "  | built\n" in head
    assert "again    flaky: exit code 1\n" in head
    assert "skipped  deploy (needs test)" in head
    assert "hm" not in head
    assert flaky.startswith("failed   flaky (exit code 1, ")
    assert flaky.endswith("  | hm")
    assert "allowed to fail, 2 attempts" in flaky
    assert test.startswith("failed   test (exit code 3, ")
    assert "  so these did not run: deploy\n  | sure" in test
    assert totals.startswith("2 passed, 2 failed, 1 skipped in ")


def test_a_live_display_leaves_what_failed_and_nothing_of_itself(service: Service) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with LiveDisplay(console) as display:
        Runner(service, workers=1, listener=display).run_all(SPECS)
    text = stream.getvalue()
    assert "passed   build" in text
    assert text.index("failed   flaky") < text.rindex("hm") < text.rindex("sure")
    assert "2 passed, 2 failed, 1 skipped" in text.splitlines()[-1]
    assert "\x1b[?25h" in text  # the cursor is back


def test_a_live_display_shows_what_runs_and_for_how_long_yet() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    specs = tuple(RunSpec(name, "true") for name in ("a", "b", "c", "new"))
    with LiveDisplay(console) as display:
        display(RunStarted(specs, 1, {"a": 2.0, "b": 70.0, "c": 30.0}))
        display(SpecStarted(specs[0], 1, None))
        display(SpecFinished(RunResult("a", specs[0], exit_code=0, duration=2.0)))
        display(SpecStarted(specs[1], 1, None))
        with console.capture() as capture:
            console.print(display._draw())
        shown = capture.get()
    assert "1/4" in shown
    assert "of about 1:10 min" in shown
    assert "about 1:40 min left" in shown
    assert "new" not in shown


def test_a_live_display_that_is_left_by_an_error_gives_the_terminal_back() -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True))
    with contextlib.suppress(OSError), display:
        display(RunStarted((), 1, {}))
        assert "\x1b[?25h" not in stream.getvalue()
        raise OSError
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is back


def test_of_an_interrupted_run_only_real_failures_are_shown() -> None:
    spec = RunSpec("a", "true")
    real, ended = RunResult("a", spec, exit_code=1), RunResult("b", spec, exit_code=-15)
    found = [
        text for text, _ in formatting.failures(RunAllResult((real, ended), 1.0, interrupted=True))
    ]
    assert len(found) == 1
    assert "interrupted after" in formatting.totals(RunAllResult((), 1.0, interrupted=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ms"),
        (0.0994, "99 ms"),
        (0.0999, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (187, "3:07 min"),
        (3599.6, "1:00:00 h"),
    ],
)
def test_durations_for_people(value: float, text: str) -> None:
    assert formatting.seconds(value) == text


def test_a_plan_says_what_a_run_would_do(service: Service) -> None:
    specs = [RunSpec("b", "echo", ["two words"], after=["a"]), sh("a", "one\ntwo"), SPECS[-1]]
    text = list(formatting.plan(Runner(service, workers=2).plan(specs)))
    assert [line.split()[0] for line in text] == ["a", "call", "b"]
    assert text[0] == "a     sh -c 'one ⏎ two'"
    assert text[2] == "b     echo 'two words'  (after a)"
    assert not service.list()


def test_json_has_it_all(result: RunAllResult) -> None:
    found = json.loads(reports.to_json(result))
    assert (found["passed"], found["failed"], found["skipped"]) == (2, 2, 1)
    assert (found["success"], found["acceptable"], found["interrupted"]) == (False, False, False)
    by_name = {one["name"]: one for one in found["results"]}
    assert [one["name"] for one in found["results"]] == [spec.name for spec in SPECS]
    assert by_name["deploy"]["status"] == "skipped"
    assert by_name["deploy"]["cause"] == "test"
    assert by_name["flaky"]["attempts"] == 2
    assert by_name["test"]["exit_code"] == 3
    assert by_name["test"]["command"] == ["sh", "-c", "echo sure; exit 3"]
    assert by_name["build"]["output"] == 'built\n<&\a"\n'
    assert by_name["build"]["peak_memory"] > 0
    assert by_name["call"]["command"] is None


def check_junit(text: str) -> ET.Element:
    """The rules of the schema that CI servers share (that of the Jenkins xUnit plugin)."""
    root = ET.fromstring(text)  # noqa: S314 - it is our own
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        cases = list(suite)
        assert int(suite.attrib["tests"]) == len(cases)
        for kind in ("failure", "error", "skipped"):
            count = suite.attrib["skipped" if kind == "skipped" else kind + "s"]
            assert int(count) == len(suite.findall(f"testcase/{kind}"))
        float(suite.attrib["time"])
        for case in cases:
            assert case.tag == "testcase"
            assert case.attrib.keys() == {"classname", "name", "time"}
            tags = [child.tag for child in case]
            assert tags in ([], ["system-out"], ["skipped"], ["skipped", "system-out"], ["failure"])
    return root


def test_junit(result: RunAllResult) -> None:
    root = check_junit(reports.to_junit(result, "my tasks"))
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert list(cases) == [spec.name for spec in SPECS]
    failure = cases["test"].find("failure")
    assert failure is not None
    assert (failure.attrib["message"], failure.text) == ("exit code 3", "sure\n")
    assert cases["flaky"].find("failure") is None
    skipped = cases["deploy"].find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "'deploy' did not run: 'test' failed"
    assert cases["build"].findtext("system-out") == 'built\n<&\ufffd"\n'


@given(name=st.text(min_size=1).filter(str.isprintable), output=st.binary())
def test_junit_and_json_bear_anything(name: str, output: bytes) -> None:
    spec = RunSpec(name, "x")
    error = ValueError(output.decode("latin-1"))
    one = RunResult(name, spec, exit_code=1, output_bytes=output, error=error)
    result = RunAllResult((one,), 1.0)
    check_junit(reports.to_junit(result, name))
    assert json.loads(reports.to_json(result))["results"][0]["output"] == one.output


def test_a_trace_shows_specs_in_as_few_lanes_as_were_busy() -> None:
    def ran(name: str, started: float, duration: float) -> RunResult:
        spec = RunSpec(name, "true")
        return RunResult(name, spec, exit_code=0, started=started, duration=duration, attempts=1)

    results = (ran("late", 2.0, 1.0), ran("long", 0.0, 4.0), ran("early", 0.5, 1.0))
    skipped = RunResult("not", RunSpec("not", "true"), skipped=True)
    trace = json.loads(reports.to_trace(RunAllResult((*results, skipped), 4.0)))
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"X"}
    assert [(event["name"], event["tid"]) for event in events] == [
        ("long", 1),
        ("early", 2),
        ("late", 2),
    ]
    assert (events[1]["ts"], events[1]["dur"]) == (500_000, 1_000_000)


def test_a_trace_of_a_real_run_has_no_overlaps_in_a_lane(service: Service) -> None:
    specs = [RunSpec(str(number), call=lambda: time.sleep(0.001)) for number in range(50)]
    result = Runner(service, workers=4).run_all(specs)
    lanes: dict[int, list[tuple[int, int]]] = {}
    for event in json.loads(reports.to_trace(result))["traceEvents"]:
        span = (event["ts"], event["ts"] + event["dur"])
        lanes.setdefault(event["tid"], []).append(span)
    assert len(lanes) <= 4
    for spans in lanes.values():
        assert all(before[1] <= after[0] + 1 for before, after in pairwise(spans))  # rounding


def test_the_result_comes_last(service: Service) -> None:
    text: list[object] = []
    result = Runner(service, listener=text.append).run_all(SPECS)
    assert text[-1] == RunFinished(result)
