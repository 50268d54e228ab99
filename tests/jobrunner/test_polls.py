"""A source that fails, hangs or asks for patience costs the others nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError
from core_infra.jobrunner.clock import FakeClock
from core_infra.jobrunner.sources import RecordedSource
from jobrunner.actors import Actor, Gate
from jobrunner.samples import signal

if TYPE_CHECKING:
    from jobrunner.polling import Make


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
