"""The fixtures, used as a user would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError
from core_infra.jobrunner import Phase
from jobs.actors import Actor, Planner, Teller
from jobs.samples import signal

if TYPE_CHECKING:
    from core_infra.jobrunner import Journal
    from pytest_core_infra._stepper import Stepper


def test_a_handler_is_tried_step_by_step(core_poller: Stepper, core_journal: Journal) -> None:
    actor = Actor()
    core_poller.add_handler(actor)
    assert core_poller.step().results == []
    core_poller.signals = [signal()]
    assert [result.success for result in core_poller.step().results] == [True]
    assert core_poller.step().results == []
    assert len(core_poller.reports) == 1
    assert [entry.phase for entry in core_journal.entries()] == [Phase.INTENT, Phase.RESULT]
    core_poller.restart()
    assert core_poller.step().results == []


def test_what_a_crash_leaves_is_looked_up(core_poller: Stepper) -> None:
    teller = Teller()
    core_poller.add_handler(teller)
    core_poller.signals = [signal(), signal(child_number=6, pr_number=7)]
    core_poller.step()
    core_poller.crash()
    teller.answer = True
    assert [result.success for result in core_poller.step().results] == [True, True]
    assert len(teller.done) == 2


@pytest.mark.parametrize("end", ["crash", "restart"])
def test_a_crash_takes_nothing_from_earlier_lives(core_poller: Stepper, end: str) -> None:
    actor = Actor()
    core_poller.add_handler(actor)
    core_poller.signals = [signal()]
    core_poller.step()
    getattr(core_poller, end)()
    core_poller.step()  # the first cycle of its life, as the one before
    kept = list(core_poller.journal.entries())
    core_poller.restart()
    core_poller.signals = [signal(pr_number=6)]
    core_poller.step()
    core_poller.crash()
    assert [*core_poller.journal.entries()][: len(kept)] == kept
    core_poller.step()
    core_poller.crash()
    core_poller.crash()  # in which no step was made
    assert [entry.phase for entry in core_poller.journal.entries()][len(kept) :] == [Phase.INTENT]
    assert [job.signal.pr_number for job in actor.done] == [5, 6]


def test_a_dry_step(core_poller: Stepper) -> None:
    planner = Planner()
    core_poller.add_handler(planner)
    core_poller.signals = [signal()]
    (rehearsal,) = core_poller.step(dry_run=True).rehearsals
    assert rehearsal.steps == ["greet abc as act"]
    assert planner.done == []


@pytest.mark.parametrize("handler", [5, None, object(), Actor])
def test_an_object_that_is_not_a_handler_is_refused(core_poller: Stepper, handler: Any) -> None:
    with pytest.raises(InvalidError, match="as a handler"):
        core_poller.add_handler(handler)
    core_poller.restart()  # nothing of it is left


def test_they_need_no_import_before_they_are_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "core_infra.jobrunner" not in sys.modules

        def test_something(core_poller, core_journal):
            assert core_poller.journal is core_journal
            assert core_poller.step().signals == 0
        """
    )
    # In runs of their own: what a test of the run will use is imported before the first one.
    for name in ("nothing", "something"):
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", name)
        result.assert_outcomes(passed=1, deselected=1)
