"""What a run would do: the schedule, played through with remembered durations."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.process.runner.graph import Graph
    from core_infra.process.runner.schedule import Schedule
    from core_infra.process.runner.spec import RunSpec


class Step(NamedTuple):
    """One spec of a plan.

    Attributes:
        spec: the spec.
        start: when it is expected to start, in seconds since the run began.
        duration: how many seconds it is expected to take.
        known: it ran before; else the duration is the median of the others'.
    """

    spec: RunSpec
    start: float
    duration: float
    known: bool


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        steps: in the order in which they would start.
        duration: seconds that all is expected to take.
        bound: seconds that no order can undercut: the longest path, or all work of the workers
            or of a pool spread evenly.
    """

    steps: tuple[Step, ...]
    duration: float
    bound: float


def make_plan(graph: Graph, schedule: Schedule, durations: Mapping[str, float]) -> Plan:
    """Play a schedule through.

    Args:
        graph: the specs.
        schedule: of them, fresh; it is used up.
        durations: the seconds that are known.
    """
    expected = graph.expected(durations)
    steps: list[Step] = []
    now = 0.0
    ends: list[tuple[float, str]] = []
    while True:
        while (name := schedule.next()) is not None:
            spec = graph.specs[name]
            steps.append(Step(spec, now, expected[name], name in durations))
            heapq.heappush(ends, (now + expected[name], name))
        if not ends:
            return Plan(tuple(steps), now, _bound(graph, schedule, expected))
        now, name = heapq.heappop(ends)
        schedule.finish(name, passed=True)


def _bound(graph: Graph, schedule: Schedule, expected: Mapping[str, float]) -> float:
    bounds = [0.0, *graph.path_lengths(expected).values()]
    if schedule.workers:
        bounds.append(sum(expected.values()) / schedule.workers)
    for pool, places in schedule.pools.items():
        within = (expected[name] for name, spec in graph.specs.items() if pool in spec.pools)
        bounds.append(sum(within) / places)
    return max(bounds)
