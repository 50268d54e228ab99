"""Hypothesis chooses what a nemesis does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.testing._nemesis import Nemesis

# The names are those of the nemesis of the test that runs; the first are the simplest.
_MACHINES = st.runner().flatmap(
    lambda test: st.sampled_from([*test.nemesis.machines, *test.nemesis.roles])
)
_SIDES = st.runner().flatmap(
    lambda test: st.lists(
        st.sampled_from(test.nemesis.machines),
        min_size=1,
        max_size=max(len(test.nemesis.machines) - 1, 1),
        unique=True,
    )
)
_SECONDS = st.sampled_from([3600, -3600, 60, -60, 1, -1])
_RATES = st.sampled_from([1.01, 0.99, 1.1, 0.9])


class NemesisStateMachine(RuleBasedStateMachine):
    """A stateful test of Hypothesis with rules that harm machines.

    Subclass it, and add rules that use what is tested, and what must hold. Hypothesis finds a
    schedule of faults that breaks it, shrinks the schedule, and prints it as code::

        class StoreTest(NemesisStateMachine):
            def __init__(self, prepared):
                self.cluster = prepared.copy()
                super().__init__(Nemesis(self.cluster, roles={"leader": self.leader}))

            @rule(value=st.integers())
            def write(self, value): ...

            @invariant()
            def nothing_acknowledged_is_lost(self): ...

            def teardown(self):
                self.cluster.stop()

        def test_store(store):
            run_state_machine_as_test(lambda: StoreTest(store), settings=settings(deadline=None))

    Without arguments of its own, ``TestStore = StoreTest.TestCase`` does the same. A rule whose
    role no machine has, or whose machine was paused or killed already, does nothing. Needs the
    extra ``testing``.

    Args:
        nemesis: what the rules harm.

    Attributes:
        nemesis: the same.
    """

    def __init__(self, nemesis: Nemesis) -> None:
        self.nemesis = nemesis
        super().__init__()

    @rule()
    def heal(self) -> None:
        """End all faults."""
        self.nemesis.heal()

    @rule(side=_SIDES)
    def partition(self, side: list[str]) -> None:
        """Let nothing pass between some machines and all others."""
        if len(self.nemesis.machines) > 1:
            self.nemesis.partition(side)

    @rule(machine=_MACHINES)
    def isolate(self, machine: str) -> None:
        """Let nothing pass between a machine and all others."""
        self._harm(self.nemesis.isolate, machine, needs_it=False)

    @rule(machine=_MACHINES)
    def kill(self, machine: str) -> None:
        """Kill what is tested on a machine."""
        self._harm(self.nemesis.kill, machine)

    @rule(machine=_MACHINES)
    def pause(self, machine: str) -> None:
        """Pause a machine."""
        self._harm(self.nemesis.pause, machine)

    @rule(machine=_MACHINES, seconds=_SECONDS)
    def jump(self, machine: str, seconds: float) -> None:
        """Set a machine's clock."""
        self._harm(self.nemesis.jump, machine, seconds)

    @rule(machine=_MACHINES, rate=_RATES)
    def skew(self, machine: str, rate: float) -> None:
        """Run a machine's clock at another rate."""
        self._harm(self.nemesis.skew, machine, rate)

    def teardown(self) -> None:
        """End all faults; Hypothesis calls it after each sequence of steps."""
        self.nemesis.heal()

    def _harm(
        self, harm: Callable[..., Any], machine: str, *arguments: float, needs_it: bool = True
    ) -> None:
        name = self.nemesis.find(machine)
        if name != machine:
            note(f"# {machine}: {name or 'no machine'}")
        if name is not None and not (needs_it and self.nemesis.is_down(name)):
            harm(name, *arguments)
