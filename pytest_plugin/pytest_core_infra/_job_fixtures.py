"""Jobs: a journal, and a poller that goes one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.jobrunner._journal.journal import Journal
    from pytest_core_infra._stepper import Stepper


@pytest.fixture
def core_journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal of this test's own, on the disk below ``tmp_path``.
    ``core_journal.append(signal, result)`` records what came of an action; ``entries()`` reads all
    back, ``files()`` names the files, ``verify()`` checks them. ``core_poller`` writes to the same
    one.

    Example::

        from core_infra.jobrunner import Journal

        def test_it_is_recorded(core_journal: Journal) -> None:
            run_my_bot(core_journal)
            assert [entry.action for entry in core_journal.entries()] == ["greet"]
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.jobrunner._journal.journal import Journal  # noqa: PLC0415 - who uses it pays

    with Journal(tmp_path / "core-journal") as journal:
        yield journal


@pytest.fixture
def core_poller(core_journal: Journal) -> Iterator[Stepper]:
    """A poller for your own handlers: it goes through a cycle when you say so.
    ``core_poller.add_handler(handler)`` adds one, ``signals`` is what its source gives (a list,
    yours to change), ``step()`` goes through one cycle and returns what happened: ``results``,
    ``rehearsals`` in a dry run, ``failures``. Time stands still but for ``clock.advance(seconds)``
    and the minute that each step takes. ``restart()`` is what a new process would be: it knows
    only what is in the journal. ``crash()`` is the same after the last step was interrupted
    between its actions and their results.

    Example::

        from core_infra.jobrunner._signal import PipelineSignal
        from pytest_core_infra._stepper import Stepper

        def test_it_greets_once(core_poller: Stepper) -> None:
            core_poller.add_handler(Greeter())
            core_poller.signals = [PipelineSignal(repo_owner="a", repo_name="b", pr_state="OPEN")]
            assert [result.success for result in core_poller.step().results] == [True]
            assert core_poller.step().results == []
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from pytest_core_infra._stepper import Stepper  # noqa: PLC0415 - who uses it pays for it

    with Stepper(core_journal) as stepper:
        yield stepper
