"""What is remembered of earlier runs, and what it does for the next."""

from __future__ import annotations

import heapq
import json
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.medium._faulty import FaultyMedium
from core_infra.medium._memory import MemoryMedium
from core_infra.process import (
    Durations,
    RunAllResult,
    Runner,
    RunResult,
    RunSpec,
    SpecStarted,
)

if TYPE_CHECKING:
    from core_infra.process import RunEvent
    from core_infra.process._service import Service


def ran(name: str, duration: float, exit_code: int = 0, attempts: int = 1) -> RunAllResult:
    spec = RunSpec(name, "x")
    one = RunResult(name, spec, exit_code=exit_code, duration=duration, attempts=attempts)
    return RunAllResult((one,), duration)


def test_what_passed_is_remembered_and_moves_half_of_the_way() -> None:
    durations = Durations(MemoryMedium())
    assert durations.load() == {}
    durations.record(ran("a", 4.0))
    durations.record(ran("b", 6.0, attempts=2))
    durations.record(ran("a", 8.0))
    durations.record(ran("a", 99.0, exit_code=1))
    assert durations.load() == {"a": 6.0, "b": 3.0}


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"a": "x"}', '{"a": -1}', '{"a": NaN}', '{"a": true', "\xff"]
)
def test_a_broken_memory_is_no_memory(text: str, caplog: pytest.LogCaptureFixture) -> None:
    medium = MemoryMedium()
    medium.write_bytes("d.json", text.encode("latin-1"))
    durations = Durations(medium, "d.json")
    assert durations.load() == {}
    assert "d.json" in caplog.text
    durations.record(ran("a", 1.0))
    assert durations.load() == {"a": 1.0}


@given(st.binary())
def test_no_content_of_the_file_breaks_a_run(content: bytes) -> None:
    medium = MemoryMedium()
    medium.write_bytes("d.json", content)
    Durations(medium, "d.json").load()


def test_a_full_disk_does_not_fail_a_run(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    medium = FaultyMedium(MemoryMedium(), plan="3:ENOSPC")
    result = Runner(service, durations=Durations(medium)).run_all([RunSpec("a", call=int)])
    assert result.success
    assert "cannot store durations" in caplog.text


def test_the_memory_stays_small() -> None:
    medium = MemoryMedium()
    durations = Durations(medium)
    specs = [RunSpec(str(number), "x") for number in range(10_000)]
    results = tuple(RunResult(one.name, one, exit_code=0, attempts=1) for one in specs)
    durations.record(ran("old", 1.0))
    durations.record(RunAllResult(results, 1.0))
    names = durations.load()
    assert len(names) == 10_000
    assert "old" not in names


def test_the_next_run_starts_what_took_longest(service: Service) -> None:
    medium = MemoryMedium()
    medium.write_text("d.json", json.dumps({"a": 1.0, "b": 9.0, "c": 3.0}))
    order: list[str] = []

    def listen(event: RunEvent) -> None:
        if isinstance(event, SpecStarted):
            order.append(event.spec.name)

    specs = [RunSpec(name, call=int) for name in "abc"]
    runner = Runner(service, workers=1, durations=Durations(medium, "d.json"), listener=listen)
    runner.run_all(specs)
    assert order == ["b", "c", "a"]
    assert Durations(medium, "d.json").load()["b"] < 9.0


def random_graph(rng: random.Random) -> tuple[list[RunSpec], dict[str, float]]:
    specs = []
    for number in range(120):
        earlier = [str(other) for other in range(max(0, number - 30), number)]
        after = rng.sample(earlier, min(len(earlier), rng.randint(0, 2)))
        specs.append(RunSpec(str(number), "x", after=after))
    return specs, {spec.name: rng.lognormvariate(0, 1) for spec in specs}


@pytest.mark.parametrize("workers", [2, 4])
def test_plans_of_random_graphs_come_within_3_percent_of_the_bound(
    service: Service, workers: int
) -> None:
    over = []
    for seed in range(30):
        specs, durations = random_graph(random.Random(seed))  # noqa: S311 - no secret
        medium = MemoryMedium()
        medium.write_text("d.json", json.dumps(durations))
        runner = Runner(service, workers=workers, durations=Durations(medium, "d.json"))
        plan = runner.plan(specs)
        assert {step.spec.name for step in plan.steps} == durations.keys()
        check(plan.steps, workers)
        over.append(plan.duration / plan.bound)
    assert sum(over) / len(over) < 1.03
    assert min(over) >= 1 - 1e-9


def check(steps: object, workers: int) -> None:
    """A plan keeps the rules that a run keeps."""
    ends: dict[str, float] = {}
    busy: list[float] = []
    for step in steps:  # type: ignore[attr-defined]
        assert all(ends[name] <= step.start + 1e-9 for name in step.spec.after)
        while busy and busy[0] <= step.start + 1e-9:
            heapq.heappop(busy)
        ends[step.spec.name] = step.start + step.duration
        heapq.heappush(busy, ends[step.spec.name])
        assert len(busy) <= workers
