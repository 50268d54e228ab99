"""The bookkeeping, held to a reference that looks at everything again at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.process._runner.graph import Graph, InvalidGraphError
from core_infra.process._runner.schedule import Schedule
from core_infra.process._runner.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POOLS = {"one": 1, "other": 1, "two": 2}
SOME_POOLS = [[], ["one"], ["other"], ["two"], ["one", "other"], ["two", "one"], ["one", "one"]]


@st.composite
def graphs(draw: st.DrawFn) -> list[RunSpec]:
    """Specs that wait for others before them, given in any order."""
    count = draw(st.integers(0, 14))
    specs = []
    for number in range(count):
        earlier = [str(other) for other in range(number)]
        specs.append(
            RunSpec(
                str(number),
                "true",
                after=draw(st.lists(st.sampled_from(earlier), max_size=3)) if earlier else [],
                pools=draw(st.sampled_from(SOME_POOLS)),
                allow_failure=draw(st.booleans()),
            )
        )
    return draw(st.permutations(specs))


class Reference:
    """The specs that may run, by the rules and without any bookkeeping."""

    def __init__(self, specs: Sequence[RunSpec], workers: int | None) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.workers = workers
        self.running: set[str] = set()
        self.ended: dict[str, bool] = {}
        self.stopped = False

    def lets_on(self, name: str) -> bool:
        return self.ended.get(name, False) or (
            name in self.ended and self.specs[name].allow_failure
        )

    def is_doomed(self, name: str) -> bool:
        """Whether something that it waits for has failed or is doomed itself."""
        return any(
            self.is_doomed(needed) or (needed in self.ended and not self.lets_on(needed))
            for needed in self.specs[name].after
        )

    def startable(self) -> set[str]:
        if self.stopped or (self.workers is not None and len(self.running) >= self.workers):
            return set()
        taken = [pool for name in self.running for pool in set(self.specs[name].pools)]
        return {
            name
            for name, spec in self.specs.items()
            if name not in self.running
            and name not in self.ended
            and all(map(self.lets_on, spec.after))
            and all(taken.count(pool) < POOLS[pool] for pool in spec.pools)
        }


@settings(max_examples=200)
@given(
    specs=graphs(),
    workers=st.none() | st.integers(1, 4),
    keep_going=st.booleans(),
    durations=st.dictionaries(st.sampled_from([str(n) for n in range(14)]), st.floats(0, 9)),
    data=st.data(),
)
def test_it_starts_what_may_start_and_nothing_else(
    specs: list[RunSpec],
    workers: int | None,
    keep_going: bool,  # noqa: FBT001 - Hypothesis gives it
    durations: dict[str, float],
    data: st.DataObject,
) -> None:
    graph = Graph(specs, POOLS)
    schedule = Schedule(
        graph, workers=workers, pools=POOLS, durations=durations, keep_going=keep_going
    )
    reference = Reference(specs, workers)
    lengths = graph.path_lengths(durations)
    while True:
        while (name := schedule.next()) is not None:
            startable = reference.startable()
            assert name in startable
            assert lengths[name] == max(lengths[other] for other in startable)
            reference.running.add(name)
        assert not reference.startable()
        assert schedule.running == reference.running
        if not reference.running:
            break
        name = data.draw(st.sampled_from(sorted(reference.running)))
        passed = data.draw(st.booleans())
        reference.running.remove(name)
        reference.ended[name] = passed
        skipped = schedule.finish(name, passed=passed)
        if not reference.lets_on(name):
            reference.stopped |= not keep_going
            assert keep_going or not reference.startable()
        if not reference.stopped:
            assert all(map(reference.is_doomed, skipped))
    assert schedule.skipped.keys() | reference.ended.keys() == reference.specs.keys()
    assert not schedule.skipped.keys() & reference.ended.keys()
    for name, cause in schedule.skipped.items():
        assert cause is not None
        assert not reference.lets_on(cause)
        assert reference.stopped or reference.is_doomed(name)


def order(specs: Sequence[RunSpec], durations: Mapping[str, float]) -> list[str]:
    schedule = Schedule(Graph(specs, {}), workers=1, pools={}, durations=durations, keep_going=True)
    names = []
    while (name := schedule.next()) is not None:
        names.append(name)
        schedule.finish(name, passed=True)
    return names


def test_the_longest_remaining_path_goes_first() -> None:
    specs = [
        RunSpec("short", "true"),
        RunSpec("head", "true"),
        RunSpec("tail", "true", after=["head"]),
        RunSpec("long", "true"),
    ]
    durations = {"short": 1.0, "head": 1.0, "tail": 5.0, "long": 4.0}
    assert order(specs, durations) == ["head", "tail", "long", "short"]


def test_without_memory_the_deepest_goes_first_and_equals_in_the_order_given() -> None:
    specs = [
        RunSpec("b", "true"),
        RunSpec("a", "true"),
        RunSpec("chain2", "true", after=["chain1"]),
        RunSpec("chain1", "true"),
    ]
    assert order(specs, {}) == ["chain1", "b", "a", "chain2"]


def test_what_is_unknown_counts_as_the_median() -> None:
    specs = [RunSpec(name, "true") for name in ("fast", "new", "slow", "usual")]
    durations = {"fast": 0.1, "slow": 60.0, "usual": 1.0}
    assert order(specs, durations) == ["slow", "new", "usual", "fast"]


def test_a_stop_names_its_cause() -> None:
    specs = [RunSpec("a", "true"), RunSpec("b", "true"), RunSpec("c", "true", after=["b"])]
    schedule = Schedule(Graph(specs, {}), workers=1, pools={}, durations={}, keep_going=False)
    assert schedule.next() == "b"
    assert schedule.finish("b", passed=False) == ["a", "c"]
    assert schedule.skipped == {"a": "b", "c": "b"}
    assert schedule.next() is None


def test_a_place_that_one_cannot_take_yet_goes_to_the_next() -> None:
    specs = [
        RunSpec("holds p", "true", pools=["p"]),
        RunSpec("holds q", "true", pools=["q"]),
        RunSpec("needs both", "true", pools=["p", "q"]),
        RunSpec("needs p", "true", pools=["p"]),
    ]
    pools = {"p": 1, "q": 1}
    graph = Graph(specs, pools)
    schedule = Schedule(graph, workers=None, pools=pools, durations={}, keep_going=True)
    assert [schedule.next(), schedule.next()] == ["holds p", "holds q"]
    assert schedule.next() is None
    schedule.finish("holds p", passed=True)
    assert schedule.next() == "needs p"
    schedule.finish("holds q", passed=True)
    assert schedule.next() is None
    schedule.finish("needs p", passed=True)
    assert schedule.next() == "needs both"


def refused(specs: Sequence[RunSpec], pools: Mapping[str, int] | None = None) -> list[str]:
    with pytest.raises(InvalidGraphError) as caught:
        Graph(specs, pools or {})
    mistakes: list[str] = caught.value.mistakes
    assert all(mistake in str(caught.value) for mistake in mistakes)
    return mistakes


def test_a_cycle_is_named_in_the_direction_of_after() -> None:
    specs = [
        RunSpec("setup", "true"),
        RunSpec("lint", "true", after=["setup", "test"]),
        RunSpec("test", "true", after=["build"]),
        RunSpec("build", "true", after=["lint"]),
        RunSpec("deploy", "true", after=["build"]),
    ]
    (mistake,) = refused(specs)
    assert mistake.startswith("lint -> test -> build -> lint: ")


def test_the_smallest_cycles() -> None:
    assert refused([RunSpec("a", "true", after=["a"])])[0].startswith("a -> a: ")
    pair = [RunSpec("lint", "true", after=["test"]), RunSpec("test", "true", after=["lint"])]
    assert refused(pair)[0].startswith("lint -> test -> lint: ")


def test_each_cycle_is_named_and_a_long_one_cut_short() -> None:
    long = [RunSpec(f"l{n}", "true", after=[f"l{(n + 1) % 90}"]) for n in range(90)]
    pair = [RunSpec("a", "true", after=["b"]), RunSpec("b", "true", after=["a"])]
    found = refused([*long, *pair])
    assert [text.partition(":")[0] for text in found] == [
        " -> ".join([*(f"l{n}" for n in range(19)), "…", "l89", "l0"]),
        "a -> b -> a",
    ]


def test_all_other_mistakes_are_reported_at_once() -> None:
    specs = [
        RunSpec("build", "true", after=["tets"], pools=["databse", "none"]),
        RunSpec("test", "true"),
        RunSpec("test", "false"),
    ]
    assert refused(specs, {"database": 1, "none": 0}) == [
        "'build' is to run after 'tets', which is not there; did you mean 'test'?",
        "two specs are named 'test'",
        "'build' runs in the pool 'databse', which is not there; did you mean 'database'?",
        "'build' runs in the pool 'none', which has 0 places",
    ]


def test_upstream_is_what_a_name_needs() -> None:
    specs = [
        RunSpec("docs", "true"),
        RunSpec("test", "true", after=["build"]),
        RunSpec("build", "true", after=["fetch"]),
        RunSpec("fetch", "true"),
    ]
    graph = Graph(specs, {})
    assert [spec.name for spec in graph.upstream(["test"])] == ["test", "build", "fetch"]
    with pytest.raises(InvalidGraphError, match="did you mean 'build'"):
        graph.upstream(["biuld"])
