"""Several hosts with one database: one acts, another takes over, and nothing is repeated."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import psycopg
import pytest

from core_infra.jobrunner import (
    ActionStatus,
    Entry,
    FakeClock,
    Index,
    NotLeaderError,
    Phase,
    Poller,
    PollerConfig,
    RecordedSource,
    SharedJournal,
    Token,
)
from core_infra.jobrunner._journal.amendments import amend
from core_infra.medium import PathNotDirectoryError
from core_infra.medium._errors import StorageError
from jobs.actors import Actor, Teller
from jobs.samples import FILE, NOON, end, intent, signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journals(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[SharedJournal]]:
    monkeypatch.setenv("JOBS_DATABASE", database)
    made = [SharedJournal(tmp_path / name, Token(env="JOBS_DATABASE")) for name in ("a", "b")]
    yield made
    for journal in made:
        journal.close()


def bot(journal: SharedJournal, handler: Actor) -> Poller:
    clock = FakeClock()
    return Poller(PollerConfig([RecordedSource([signal()])], [handler], journal, clock=clock))


def test_another_host_takes_over_and_repeats_nothing(journals: list[SharedJournal]) -> None:
    first, second = Actor(), Actor()
    with bot(journals[0], first) as leader, bot(journals[1], second) as standby:
        assert len(leader.run_once().results) == 1
        with pytest.raises(NotLeaderError, match="another host"):
            standby.run_once()
        assert (leader.leads, standby.leads) == (True, False)
        leader.close()
        assert standby.run_once().results == []
        assert standby.leads
    assert (len(first.done), second.done) == (1, [])
    assert [entry.id for entry in journals[0].entries()] == [
        entry.id for entry in journals[1].entries()
    ]


def test_an_action_that_a_lost_host_left_open_is_looked_up(journals: list[SharedJournal]) -> None:
    """The host vanishes between the intent and the action."""
    first, second = Teller(), Teller()
    lost = bot(journals[0], first)
    lost.run_once()
    entry = next(iter(journals[0].entries()))
    assert entry.phase is Phase.INTENT
    given = {"ts": entry.ts, "id": "0" * 32, "signal": signal().to_dict()}
    intent = Entry.of(signal(), Phase.INTENT, "act", **given)
    with bot(journals[1], second) as standby:
        journals[0].write([intent])
        lost.close()
        second.answer = True
        (result,) = standby.run_once().results
    assert result.success
    assert [job.id for job in second.asked] == ["0" * 32]


def test_what_a_host_has_pruned_does_not_come_back(
    journals: list[SharedJournal], tmp_path: Path
) -> None:
    journals[0].write([intent(1), end(1, success=False, error="no answer"), intent(2)])
    journals[0].write([end(2)])
    assert journals[0].prune(NOON.date() + dt.timedelta(days=1)) == [FILE]
    journals[1].write([intent(3), end(3)])
    with SharedJournal(tmp_path / "a", Token(env="JOBS_DATABASE")) as again:
        again.pull()
        assert [entry.id for entry in again.entries()] == ["id-3", "id-3"]
        assert not any(check.breaks for check in again.verify())
        with Index(again) as index:
            states = index.states(["id-1", "id-2", "id-3"])
    assert [states[f"id-{number}"].status for number in (1, 2, 3)] == [
        ActionStatus.FAILED,
        ActionStatus.DONE,
        ActionStatus.DONE,
    ]


def test_what_could_not_be_written_here_is_pulled_later(
    journals: list[SharedJournal], tmp_path: Path
) -> None:
    """As after the disk was full."""
    journals[0].write([intent(1)])
    journals[0].pull()
    repository = (tmp_path / "a" / FILE).parent
    repository.rename(tmp_path / "kept")
    repository.write_text("in the way")
    journals[0].close()
    with pytest.raises(PathNotDirectoryError):
        journals[0].write([end(1)])
    repository.unlink()
    (tmp_path / "kept").rename(repository)
    journals[0].pull()
    assert [entry.phase for entry in journals[0].entries()] == [Phase.INTENT, Phase.RESULT]


def test_who_has_lost_the_connection_starts_nothing(
    journals: list[SharedJournal], database: str
) -> None:
    actor = Actor()
    with bot(journals[0], actor) as poller:
        poller.run_once()
        with psycopg.connect(database, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
            )
        with pytest.raises(StorageError, match="database of the journal"):
            journals[0].write([])
        assert poller.run_once().results == []  # it has the lock again, and has read all
        assert poller.leads
    assert len(actor.done) == 1


def test_a_person_on_another_host_has_it_tried_again(journals: list[SharedJournal]) -> None:
    actor = Actor(do=lambda *_: "no rights")
    with bot(journals[0], actor) as poller:
        poller.run_once()
        assert poller.run_once().results == []
        journals[1].pull()
        assert len(amend(journals[1], "acme/widgets#5", Phase.RETRY)) == 1
        actor.do = lambda *_: None
        (result,) = poller.run_once().results
    assert result.success


def test_a_database_that_is_gone_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_DATABASE", f"host={tmp_path} user=bot password=s3cret")
    with pytest.raises(StorageError, match="cannot use the database of the journal") as caught:
        SharedJournal(tmp_path / "a", Token(env="JOBS_DATABASE")).pull()
    assert "s3cret" not in str(caught.value)
