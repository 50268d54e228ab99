"""Concurrent actions: one for each item, each with a time limit, and none started after a stop."""

from __future__ import annotations

import gc
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import WrongStateError
from core_infra.jobrunner import (
    FakeClock,
    Journal,
    NotLeaderError,
    Phase,
    Poller,
    PollerConfig,
    RecordedSource,
)
from jobs.actors import Actor, Gate, Teller
from jobs.polling import last, phases
from jobs.samples import signal

if TYPE_CHECKING:
    from core_infra.jobrunner import Job, PipelineSignal
    from jobs.polling import Make


def test_no_two_actions_touch_one_item_at_once(make: Make) -> None:
    lock, most, now = threading.Lock(), 0, 0
    barrier = threading.Barrier(3)

    def watch(seen: PipelineSignal, _: Job) -> None:
        nonlocal most, now
        if seen.pr_number == 5:
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
        else:
            barrier.wait(30)  # these three do run at once

    same = [signal(last_commit_sha=str(number)) for number in range(30)]
    others = [signal(child_number=n, pr_number=n, last_commit_sha="x") for n in (7, 8, 9)]
    actor = Actor(do=watch)
    make(actor, sources=[RecordedSource(same + others)], workers=4).run_once()
    assert most == 1
    assert len(actor.done) == 33


def test_what_else_a_handler_touches_counts_too(make: Make) -> None:
    running: list[int] = []

    def alone(seen: PipelineSignal, _: Job) -> None:
        running.append(seen.child_number)
        assert len(running) == 1
        running.pop()

    actor = Actor(do=alone)
    actor.touches = lambda seen: [seen.epic_number]  # type: ignore[attr-defined]
    signals = [signal(child_number=n, pr_number=0) for n in range(2, 60)]
    report = make(actor, sources=[RecordedSource(signals)]).run_once()
    assert [result.error for result in report.results] == [""] * 58


def test_an_action_that_takes_too_long_is_abandoned_and_its_item_not_touched(
    make: Make, journal: Journal, source: RecordedSource
) -> None:
    gate = Gate()
    actor = Actor(do=gate)
    poller = make(actor, job_timeout=0.05)
    report = poller.run_once()
    assert last(journal).phase is Phase.UNKNOWN
    assert "has not ended within 0.05 s" in report.results[0].error
    source.signals = [signal(last_commit_sha="def")]
    poller.run_once()
    assert actor.commits == ["abc"]
    gate.opened.set()
    while last(journal).phase is not Phase.RESULT:
        poller.run_once()
    poller.run_once()
    assert actor.commits == ["abc", "def"]
    ends = [entry for entry in journal.entries() if entry.phase is Phase.RESULT]
    assert ends[0].success


def test_stopping_lets_running_actions_end_and_starts_no_others(
    make: Make, journal: Journal
) -> None:
    gate = Gate()
    actor = Actor(do=gate)
    signals = [signal(child_number=n, pr_number=n) for n in range(1, 6)]
    poller = make(actor, sources=[RecordedSource(signals)], workers=2)
    thread = threading.Thread(target=poller.run)
    thread.start()
    gate.wait()
    gate.wait()
    poller.stop()
    gate.opened.set()
    thread.join(30)
    assert not thread.is_alive()
    assert sorted(phases(journal)) == ["intent"] * 5 + ["result"] * 2 + ["withdrawn"] * 3
    poller.close()
    again = Actor()
    make(again, sources=[RecordedSource(signals)]).run_once()
    assert len(again.done) == 3
    assert {job.attempt for job in again.done} == {1}


def test_what_does_not_end_in_time_is_looked_up_by_the_next_start(
    make: Make, journal: Journal
) -> None:
    gate = Gate()
    actor = Teller(do=gate)
    poller = make(actor, grace_period=0.01)
    thread = threading.Thread(target=poller.run)
    thread.start()
    gate.wait()
    poller.stop()
    thread.join(30)
    assert phases(journal) == ["intent"]
    poller.close()
    again = make(actor)
    with pytest.raises(NotLeaderError):  # not while it still runs
        again.run_once()
    gate.opened.set()
    actor.answer = True
    once_it_leads(again)
    assert phases(journal) == ["intent", "result"]
    assert actor.commits == ["abc"]


def test_stopping_does_not_wait_for_a_report_that_hangs(make: Make, source: RecordedSource) -> None:
    acts, reports = Gate(), Gate()
    source.report = reports  # type: ignore[assignment, method-assign]
    poller = make(Actor(do=acts), grace_period=0.05, poll_timeout=600.0)
    thread = threading.Thread(target=poller.run)
    thread.start()
    acts.wait()
    poller.stop()
    acts.opened.set()
    thread.join(30)
    assert not thread.is_alive()
    reports.opened.set()


def test_an_interrupted_poller_closes_and_another_looks_up_what_it_left(
    make: Make, journal: Journal
) -> None:
    gate = Gate()

    def interrupt(seen: PipelineSignal) -> bool:
        if seen.pr_number == 9:
            raise KeyboardInterrupt
        return True

    def poll() -> Any:
        gate.wait()
        return [signal(pr_number=9)]

    actor = Teller(do=gate, wants=interrupt)
    second = RecordedSource(name="second")
    second.poll = poll  # type: ignore[method-assign]
    poller = make(actor, sources=[RecordedSource([signal()]), second])
    with pytest.raises(KeyboardInterrupt):
        poller.run_once()
    for again in (poller.run_once, poller.run):
        with pytest.raises(WrongStateError, match="interrupted in cycle 1: KeyboardInterrupt"):
            again()
    actor.wants = lambda seen: seen.pr_number == 5
    actor.answer = True
    other = make(actor)
    with pytest.raises(NotLeaderError):  # something of it still runs
        other.run_once()
    gate.opened.set()
    once_it_leads(other)
    assert phases(journal) == ["intent", "result"]
    assert actor.commits == ["abc"]


def test_run_ends_with_what_no_cycle_can_follow(make: Make) -> None:
    class Broken(FakeClock):
        def now(self) -> datetime:
            raise ZeroDivisionError("what time is it")

        def wait(self, *_: object) -> bool:
            raise AssertionError("it goes on")

    poller = make(Actor(), clock=Broken())
    with pytest.raises(ZeroDivisionError):
        poller.run()
    with pytest.raises(WrongStateError, match="interrupted in cycle 1: what time is it"):
        poller.run()


def test_a_closed_poller_raises_and_blocks_no_other(make: Make) -> None:
    poller, other = make(Actor()), make(Actor())
    poller.close()
    for again in (poller.run_once, poller.run):
        with pytest.raises(WrongStateError, match="cannot run another cycle: it was closed"):
            again()
    poller.close()
    assert len(other.run_once().results) == 1


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_forgotten_poller_leads_as_long_as_something_of_it_runs(journal: Journal) -> None:
    gate = Gate()

    def forget() -> None:
        config = PollerConfig(
            [RecordedSource([signal()])], [Actor(do=gate)], journal, job_timeout=0.05
        )
        Poller(config).run_once()

    forget()
    gc.collect()
    other = Actor("other")
    with Poller(PollerConfig([RecordedSource([signal()])], [other], journal)) as poller:
        with pytest.raises(NotLeaderError):
            poller.run_once()
        gate.opened.set()
        once_it_leads(poller)
    assert len(other.done) == 1


def once_it_leads(poller: Poller) -> None:
    deadline = time.monotonic() + 30
    while True:
        gc.collect()
        try:
            poller.run_once()
        except NotLeaderError:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        else:
            return


def test_one_poller_acts_and_another_takes_over(make: Make) -> None:
    first, second = Actor(), Actor()
    leader, other = make(first), make(second)
    leader.run_once()
    with pytest.raises(NotLeaderError, match="another poller does"):
        other.run_once()
    leader.close()
    other.run_once()
    assert len(first.done) == 1
    assert second.done == []  # it knows what the other did


def test_run_goes_on_until_it_is_stopped(make: Make, clock: FakeClock) -> None:
    poller = make(Actor())
    cycles: list[datetime] = []

    def stop(*_: object) -> Any:
        cycles.append(clock.now())
        if len(cycles) == 3:
            poller.stop()
        raise ValueError("each time")

    source = RecordedSource(name="other")
    source.poll = stop  # type: ignore[method-assign]
    poller.add_source(source)
    poller.run()
    assert poller.cycle >= 3
    assert cycles[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert timedelta(seconds=60) <= cycles[1] - cycles[0] <= timedelta(seconds=66)
