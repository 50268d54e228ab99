"""The fixtures ``core_journal`` and ``core_poller``: a journal, and a poller to step by hand."""

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
    """An empty journal for this test, on the disk below ``tmp_path``.
    ``core_journal.append(signal, result)`` records the result of an action; ``entries()`` reads all
    entries, ``files()`` lists the files, ``verify()`` checks them. ``core_poller`` writes to the
    same journal.

    Example::

        from core_infra.jobrunner import Journal

        def test_it_is_recorded(core_journal: Journal) -> None:
            run_my_bot(core_journal)
            assert [entry.action for entry in core_journal.entries()] == ["greet"]
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from core_infra.jobrunner._journal.journal import Journal  # noqa: PLC0415 - imported only if it is used

    with Journal(tmp_path / "core-journal") as journal:
        yield journal


@pytest.fixture
def core_poller(core_journal: Journal) -> Iterator[Stepper]:
    """A poller for your own handlers; the test runs its cycles one by one.
    ``core_poller.add_handler(handler)`` adds a handler, ``signals`` is the list of its source's
    signals (change it as you like), ``step()`` runs one cycle and returns its report: ``results``,
    ``rehearsals`` in a dry run, ``failures``. Its clock moves by ``clock.advance(seconds)`` and by
    a minute for each step. ``restart()`` continues like a new process, which knows only the
    journal. ``crash()`` continues like a new process after the last step was killed between its
    actions and their results.

    Example::

        from core_infra.jobrunner import PipelineSignal
        from pytest_core_infra.plugin import Stepper

        def test_it_greets_once(core_poller: Stepper) -> None:
            core_poller.add_handler(Greeter())
            core_poller.signals = [PipelineSignal(repo_owner="a", repo_name="b", pr_state="OPEN")]
            assert [result.success for result in core_poller.step().results] == [True]
            assert core_poller.step().results == []
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from pytest_core_infra._stepper import Stepper  # noqa: PLC0415 - imported only if it is used

    with Stepper(core_journal) as stepper:
        yield stepper
