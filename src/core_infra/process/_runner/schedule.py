"""The schedule: which spec starts next. Pure bookkeeping, without threads, clocks or processes.

Among the specs that may start, the one with the longest remaining path goes first (critical-path
list scheduling: T. C. Hu, "Parallel Sequencing and Assembly Line Problems", 1961; at most twice
the optimum whatever the graph: R. L. Graham, 1969).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.process._runner.graph import Graph
    from core_infra.process._runner.spec import RunSpec


class Schedule:
    """The state of a run.

    Args:
        graph: the specs.
        workers: how many run at once; None is as many as are ready.
        pools: the number of places of each pool.
        durations: the seconds that specs took before, as far as they are known.
        keep_going: start others after a failure.

    Attributes:
        running: names of the specs that were started and have not finished.
        skipped: names of the specs that will never run, and the failed spec that is the reason
            (None: the run was interrupted); in the order in which that became known.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        workers: int | None,
        pools: Mapping[str, int],
        durations: Mapping[str, float],
        keep_going: bool,
    ) -> None:
        self.workers = workers
        self.pools = pools
        self.running: set[str] = set()
        self.skipped: dict[str, str | None] = {}
        self._graph = graph
        self._places = dict(pools)
        self._pools = {name: tuple(dict.fromkeys(one.pools)) for name, one in graph.specs.items()}
        self._keep_going = keep_going
        self._finished: set[str] = set()
        self._missing = {name: len(needed) for name, needed in graph.after.items()}
        lengths = graph.path_lengths(durations)
        # Specs of the same rank start in the given order.
        self._rank = {name: (-lengths[name], number) for number, name in enumerate(graph.specs)}
        self._ready = [(rank, name) for name, rank in self._rank.items() if not self._missing[name]]
        heapq.heapify(self._ready)
        self._waiting: dict[str, list[tuple[tuple[float, int], str]]] = {pool: [] for pool in pools}

    def next(self) -> str | None:
        """Return a spec that starts now; None if none can until another finishes."""
        while self._ready and (self.workers is None or len(self.running) < self.workers):
            entry = heapq.heappop(self._ready)
            name = entry[1]
            pools = self._pools[name]
            full = next((pool for pool in pools if not self._places[pool]), None)
            if full is None:
                for pool in pools:
                    self._places[pool] -= 1
                self.running.add(name)
                return name
            heapq.heappush(self._waiting[full], entry)
            # It waits for this one, so places that it would take in others are free for another.
            for pool in pools:
                if self._places[pool]:
                    self._wake(pool)
        return None

    def finish(self, name: str, *, passed: bool) -> list[str]:
        """Note that a spec has ended; returns the names of those that are skipped because of it."""
        self.running.remove(name)
        self._finished.add(name)
        spec = self._graph.specs[name]
        for pool in self._pools[name]:
            self._places[pool] += 1
            self._wake(pool)
        if passed or spec.allow_failure:
            self._release(name)
            return []
        if self._keep_going:
            return self._skip_dependents(name)
        return self.stop(name)

    def stop(self, cause: str | None) -> list[str]:
        """Start nothing more; returns the names of those that are skipped because of it."""
        self._ready.clear()
        self._waiting = {pool: [] for pool in self._waiting}
        known = self.running | self._finished | self.skipped.keys()
        names = [name for name in self._graph.order if name not in known]
        self.skipped.update(dict.fromkeys(names, cause))
        return names

    def _release(self, name: str) -> None:
        for dependent in self._graph.dependents[name]:
            self._missing[dependent] -= 1
            if not self._missing[dependent] and dependent not in self.skipped:
                heapq.heappush(self._ready, (self._rank[dependent], dependent))

    def _skip_dependents(self, name: str) -> list[str]:
        names: list[str] = []
        todo = [name]
        for reason in todo:  # grows during iteration
            for dependent in self._graph.dependents[reason]:
                if dependent not in self.skipped:
                    self.skipped[dependent] = name
                    names.append(dependent)
                    todo.append(dependent)
        return names

    def _wake(self, pool: str) -> None:
        if self._waiting[pool]:
            heapq.heappush(self._ready, heapq.heappop(self._waiting[pool]))


class PlannedSpec(NamedTuple):
    """One spec of a plan.

    Attributes:
        spec: the spec.
        start: when it is expected to start, in seconds since the run began.
        duration: how many seconds it is expected to take.
        known: its duration is stored; else it is the median of the others.
    """

    spec: RunSpec
    start: float
    duration: float
    known: bool


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes:
        steps: the specs, in the order in which they would start.
        duration: expected seconds of the whole run.
        bound: a lower bound of any order: the longest path, or all work of the workers or of a
            pool spread evenly.
    """

    steps: tuple[PlannedSpec, ...]
    duration: float
    bound: float


def make_plan(graph: Graph, schedule: Schedule, durations: Mapping[str, float]) -> RunPlan:
    """Simulate a schedule.

    Args:
        graph: the specs.
        schedule: a new one of these specs; it is consumed.
        durations: the seconds that are stored.
    """
    expected = graph.expected(durations)
    steps: list[PlannedSpec] = []
    now = 0.0
    ends: list[tuple[float, str]] = []
    while True:
        while (name := schedule.next()) is not None:
            spec = graph.specs[name]
            steps.append(PlannedSpec(spec, now, expected[name], name in durations))
            heapq.heappush(ends, (now + expected[name], name))
        if not ends:
            return RunPlan(tuple(steps), now, _bound(graph, schedule, expected))
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
