"""The nemesis, on machines that only keep what was done to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from core_infra.errors import InvalidError, NotFoundError
from core_infra.testing import Nemesis, NemesisFault, NemesisStateMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.vm import Cluster


class FakeFault:
    def __init__(self, active: list[str], text: str) -> None:
        self.active, self.text = active, text
        active.append(text)

    def heal(self) -> None:
        self.active.remove(self.text)


class FakeMachine:
    status = "running"

    def __init__(self, name: str, active: list[str]) -> None:
        self.name, self.active, self.clock = f"{name}@one", active, self

    def fault(self, text: str) -> FakeFault:
        return FakeFault(self.active, f"{text} {self.name[0]}")

    def pause(self) -> FakeFault:
        return self.fault("pause")

    def jump(self, seconds: float) -> FakeFault:
        return self.fault(f"jump {seconds}")

    def skew(self, rate: float) -> FakeFault:
        return self.fault(f"skew {rate}")

    def power_cut(self) -> None:
        self.fault("off")

    def power_on(self) -> None:
        self.active.remove(f"off {self.name[0]}")


class FakeNetwork:
    name = "net1"

    def __init__(self, machines: list[str], active: list[str]) -> None:
        self.machines, self.active = machines, active

    def partition(self, *groups: list[str]) -> FakeFault:
        return FakeFault(self.active, " | ".join(" ".join(group) for group in groups))

    def isolate(self, name: str) -> FakeFault:
        return FakeFault(self.active, f"isolate {name}")


class FakeCluster:
    """Nodes that copy what is written to those that they reach; a, b and c are on a network."""

    def __init__(self) -> None:
        self.active: list[str] = []
        self.networks = {"net1": FakeNetwork(["a", "b", "c"], self.active)}
        self.machines = [FakeMachine(name, self.active) for name in "abc"]

    def __iter__(self) -> Iterator[FakeMachine]:
        return iter(self.machines)


def nemesis_of(cluster: FakeCluster, **options: object) -> Nemesis:
    return Nemesis(cast("Cluster", cluster), **options)  # type: ignore[arg-type] # as the tests give


def test_each_fault_lasts_for_its_block() -> None:
    cluster = FakeCluster()
    nemesis = nemesis_of(cluster, roles={"leader": lambda: cluster.machines[1]})
    faults: list[tuple[Callable[[], NemesisFault], str]] = [
        (nemesis.partition, "a | b c"),
        (lambda: nemesis.partition(["leader", "c"]), "b c | a"),
        (lambda: nemesis.isolate("leader"), "isolate b"),
        (lambda: nemesis.kill("a"), "off a"),
        (lambda: nemesis.pause("c"), "pause c"),
        (lambda: nemesis.jump("a", -60), "jump -60 a"),
        (lambda: nemesis.skew("a", 1.1), "skew 1.1 a"),
    ]
    for fault, works in faults:
        with fault() as begun:
            assert cluster.active == [works]
            assert nemesis.faults == [begun]
        assert cluster.active == []
        begun.heal()  # a second time: nothing happens
    assert nemesis.history == [
        "nemesis.partition()",
        "nemesis.partition(['leader', 'c'])",
        "nemesis.isolate('leader')  # b",
        "nemesis.kill('a')",
        "nemesis.pause('c')",
        "nemesis.jump('a', -60)",
        "nemesis.skew('a', 1.1)",
    ]


def test_the_history_does_the_same_again() -> None:
    cluster, again = FakeCluster(), FakeCluster()
    nemesis = nemesis_of(cluster, roles={"leader": lambda: "c"})
    nemesis.isolate("leader")
    nemesis.pause("a")
    nemesis.heal()
    nemesis.skew("b", 0.9)
    exec(  # noqa: S102 - what a user pastes
        "\n".join(nemesis.history), {"nemesis": nemesis_of(again, roles={"leader": lambda: "c"})}
    )
    assert again.active == cluster.active == ["skew 0.9 b"]


def test_all_faults_are_healed_even_if_one_cannot_be() -> None:
    cluster = FakeCluster()

    def fail(_machine: object) -> None:
        raise LookupError("does not start")

    nemesis = nemesis_of(cluster, kill=lambda _machine: None, start=fail)
    nemesis.isolate("a")
    nemesis.kill("b")
    nemesis.pause("c")
    with pytest.raises(LookupError, match="does not start"):
        nemesis.heal()
    assert cluster.active == []
    assert nemesis.faults == []


def test_a_partition_is_on_all_networks_or_on_none() -> None:
    cluster = FakeCluster()
    inner = FakeNetwork(["b", "c"], cluster.active)
    nemesis = nemesis_of(cluster, networks=[inner, *cluster.networks.values()])
    nemesis.partition(["b"])
    assert cluster.active == ["b | c", "b | a c"]
    nemesis.heal()

    def fail(*_groups: object) -> FakeFault:
        raise LookupError

    cluster.networks["net1"].partition = fail  # type: ignore[method-assign] # to fail halfway
    with pytest.raises(LookupError):
        nemesis.partition(["b"])
    assert cluster.active == []
    assert nemesis.faults == []


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda nemesis: nemesis.isolate("z"), NotFoundError, "'z'.*a, b, c, leader"),
        (lambda nemesis: nemesis.isolate("leader"), InvalidError, "no machine has that role"),
        (lambda nemesis: nemesis.partition([]), InvalidError, "sides would be"),
        (lambda nemesis: nemesis.partition("abc"), NotFoundError, "'abc'"),
        (lambda nemesis: nemesis.partition(list("abc")), InvalidError, "sides would be"),
        (lambda nemesis: nemesis.pause(None), InvalidError, "None is not a machine"),
        (
            lambda _: nemesis_of(FakeCluster(), networks=[]).isolate("a"),
            InvalidError,
            "no network connects them",
        ),
        (lambda _: nemesis_of(FakeCluster(), kill=print), InvalidError, "kill= and start="),
        (lambda _: nemesis_of(FakeCluster(), roles={"a": print}), InvalidError, "role 'a'"),
        (lambda _: nemesis_of(FakeCluster(), roles={"x": "a"}), InvalidError, "needs a function"),
        (lambda _: nemesis_of(FakeCluster(), roles=["x"]), InvalidError, r"the roles \['x'\]"),
        (lambda _: nemesis_of(FakeCluster(), roles={5: print}), InvalidError, "its name is a text"),
        (lambda _: nemesis_of(FakeCluster(), kill=5, start=6), InvalidError, "kill=5.*function"),
        (lambda _: nemesis_of(FakeCluster(), networks=5), InvalidError, "5.*not a network"),
        (lambda _: nemesis_of(FakeCluster(), networks=["n"]), InvalidError, "'n'.*not a network"),
        (lambda nemesis: nemesis.is_down("d"), NotFoundError, "no machine 'd'"),
        (lambda _: Nemesis([]), InvalidError, "needs machines"),
        (lambda _: Nemesis(["a"]), InvalidError, "only its name"),  # type: ignore[list-item] # wrong
        (lambda _: Nemesis(5), InvalidError, "5 is not a machine"),  # type: ignore[arg-type] # wrong
    ],
)
def test_wrong_use_is_one_clear_error(
    wrong: Callable[[Nemesis], object], kind: type[Exception], says: str
) -> None:
    nemesis = nemesis_of(FakeCluster(), roles={"leader": lambda: None})
    with pytest.raises(kind, match=says):
        wrong(nemesis)
    assert nemesis.history == []
    assert nemesis.faults == []


class SplitBrain(NemesisStateMachine):
    """A store that has two leaders if one machine is isolated and another one is killed."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.wrong = False
        super().__init__(nemesis_of(self.cluster, roles={"leader": lambda: "b"}))

    @rule()
    def write(self) -> None:
        self.wrong = {"isolate", "off"} <= {text.split()[0] for text in self.cluster.active}

    @invariant()
    def is_right(self) -> None:
        assert not self.wrong, "two leaders"


def falsified(kind: type[NemesisStateMachine]) -> list[str]:
    """The steps that Hypothesis prints."""
    with pytest.raises(AssertionError, match="two leaders") as error:
        run_state_machine_as_test(
            kind,
            settings=settings(
                max_examples=1000,
                stateful_step_count=10,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.generate, Phase.shrink),
            ),
        )
    return [line for note in error.value.__notes__ for line in note.splitlines()]


def test_a_schedule_is_found_shrunk_and_printed_as_code() -> None:
    lines = falsified(SplitBrain)
    code = [line for line in lines if re.match(r"state\b", line)]
    calls = sorted(re.findall(r"state\.(\w+)\(", "\n".join(code)))
    assert calls == ["is_right"] * calls.count("is_right") + [
        "isolate",
        "kill",
        "teardown",
        "write",
    ]
    pasted = "\n".join(code)
    with pytest.raises(AssertionError, match="two leaders"):
        exec(pasted, {"SplitBrain": SplitBrain})  # noqa: S102 - what a user pastes


def test_rules_leave_out_what_cannot_be_done() -> None:
    class AllRules(NemesisStateMachine):
        def __init__(self) -> None:
            self.cluster = FakeCluster()
            super().__init__(nemesis_of(self.cluster, roles={"nobody": lambda: None}))

        @invariant()
        def no_machine_is_down_twice(self) -> None:
            down = [text[-1] for text in self.cluster.active if text.startswith(("off", "pause"))]
            assert len(down) == len(set(down))

        def teardown(self) -> None:
            super().teardown()
            assert self.cluster.active == []

    run_state_machine_as_test(
        AllRules, settings=settings(max_examples=20, deadline=None, database=None)
    )
