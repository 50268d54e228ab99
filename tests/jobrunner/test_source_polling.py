"""A source that fails, hangs or asks for patience costs the others nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner import FakeClock, PipelineSignal, RecordedSource
from jobs.actors import Actor, Gate
from jobs.polling import phases
from jobs.samples import NOON, signal

if TYPE_CHECKING:
    from core_infra.jobrunner import Journal
    from jobs.polling import Make


def test_one_source_that_fails_does_not_stop_the_others(make: Make) -> None:
    bad, good = RecordedSource(name="bad"), RecordedSource([signal()], name="good")
    bad.error = ValueError("no")
    actor = Actor()
    report = make(actor, sources=[bad, good]).run_once()
    assert report.failures == {"bad": "no"}
    assert actor.commits == ["abc"]


def test_a_source_that_goes_on_failing_is_asked_less_often(
    make: Make, source: RecordedSource, clock: FakeClock
) -> None:
    asked = []
    source.error = ValueError("no")
    poll = source.poll

    def count() -> Any:
        asked.append((clock.now() - FakeClock().now()).seconds // 60)
        return poll()

    source.poll = count  # type: ignore[method-assign]
    poller = make(Actor())
    for _ in range(40):
        poller.run_once()
        clock.advance(60)
    assert asked == [0, 1, 2, 4, 8, 16, 32]
    source.error = None
    clock.advance(3600)
    poller.run_once()
    clock.advance(60)
    poller.run_once()
    assert len(asked) == 9


def test_a_source_says_itself_when_to_come_back(
    make: Make, source: RecordedSource, clock: FakeClock
) -> None:
    source.error = CoreInfraError("limit", retry_at=clock.now() + timedelta(seconds=600))
    actor = Actor()
    poller = make(actor)
    poller.run_once()
    source.error = None
    clock.advance(599)
    assert poller.run_once().signals == 0
    clock.advance(1)
    assert poller.run_once().signals == 1


def test_a_moment_without_a_time_zone_is_none_to_wait_for(
    make: Make, source: RecordedSource, clock: FakeClock
) -> None:
    source.error = CoreInfraError("limit", retry_at=clock.now().replace(tzinfo=None, year=2100))
    poller = make(Actor())
    poller.run_once()
    source.error = None
    assert poller.run_once().signals == 1


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (None, "it must be a PipelineSignal, but is of the type NoneType"),
        (signal(pr_number=None), "pr_number: Input should be a valid integer"),
        (signal(pr_number="7"), "pr_number: Input should be a valid integer"),
        (signal(pr_number=1.5), "pr_number: Input should be a valid integer"),
        (signal(pr_number=[1]), "pr_number: Input should be a valid integer"),
        (signal(pr_number=True), "pr_number: Input should be a valid integer"),
        (signal(pr_number=-3), "pr_number: Input should be greater than or equal to 0"),
        (signal(pr_number=2**62 + 1), "pr_number: Input should be less than or equal to 9007"),
        (signal(child_number=10**5000), "child_number: Input should be less than or equal to"),
        (signal(repo_owner=5), "repo_owner: Input should be a valid string"),
        (signal(forge=3), "forge: Input should be a valid string"),
        (signal(pr_state="OPENED"), "pr_state: Input should be '', 'OPEN', 'MERGED' or 'CLOSED'"),
        (signal(assignee={"ann", "ben"}), "assignee: Input should be a valid string"),
        (signal(issue_title=b"x"), "issue_title: Input should be a valid string"),
        (signal(is_draft="x"), "is_draft: Input should be a valid boolean"),
        (signal(threads_total=None), "threads_total: Input should be a valid integer"),
        (signal(last_commit_at=NOON.replace(tzinfo=None)), "should have timezone info"),
        (signal(last_commit_at="now"), "last_commit_at: Input should be a valid datetime"),
    ],
)
def test_a_signal_with_a_wrong_value_is_reported_and_the_others_are_acted_on(
    make: Make, journal: Journal, caplog: pytest.LogCaptureFixture, odd: Any, told: str
) -> None:
    actor = Actor(wants=lambda _: True)
    bad, good = (
        RecordedSource([odd, signal()], name="bad"),
        RecordedSource([signal(pr_number=6)], name="good"),
    )
    poller = make(actor, sources=[bad, good])
    poller.run_once()
    poller.run_once()
    assert sorted(job.signal.pr_number for job in actor.done) == [5, 6]
    assert "source bad: signal 1 is skipped: " in caplog.text
    assert told in caplog.text
    assert len(phases(journal)) == 4


@pytest.mark.parametrize("number", [0, 2**53])
def test_a_number_at_its_limit_is_acted_on_once(make: Make, journal: Journal, number: int) -> None:
    actor = Actor()
    for _ in range(2):
        poller = make(actor, sources=[RecordedSource([signal(pr_number=number, epic_number=9)])])
        poller.run_once()
        poller.close()
        Path(journal.base_dir, ".index.sqlite3").unlink()  # only the files count
    assert len(actor.done) == 1
    with pytest.raises(InvalidError, match="pr_number: Input should be less than or equal"):
        PipelineSignal.from_dict({"repo_owner": "a", "repo_name": "b", "pr_number": 2**53 + 1})


def test_a_source_that_hangs_costs_the_others_nothing(make: Make) -> None:
    gate = Gate()
    slow, good = RecordedSource([signal()], name="slow"), RecordedSource([signal()], name="good")
    slow.poll = gate  # type: ignore[assignment]
    actor = Actor()
    poller = make(actor, sources=[slow, good], poll_timeout=0.05)
    report = poller.run_once()
    assert actor.commits == ["abc"]
    assert "has not answered" in report.failures["slow"]
    poller.run_once()
    assert gate.came.acquire(timeout=30)
    assert not gate.came.acquire(blocking=False)  # it is not asked twice at once
    gate.opened.set()
