"""What a crash or a failure leaves open is looked up before it is done again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from core_infra.jobrunner import FakeClock, Journal, Phase
from jobs.actors import Actor, Teller
from jobs.polling import last, phases
from jobs.samples import intent

if TYPE_CHECKING:
    import pytest

    from core_infra.jobrunner import Poller, RecordedSource
    from jobs.polling import Make


def open_intents(journal: Journal, handler: Actor, poller: Poller) -> None:
    """Leave what a poller leaves that is killed while it acts."""
    poller.run_once()
    (path,) = journal.files()
    file = f"{journal.base_dir}/{path}"
    with open(file, "rb") as lines:  # noqa: PTH123
        intent = lines.readline()
    poller.close()
    journal.close()
    os.truncate(file, len(intent))
    os.unlink(f"{journal.base_dir}/.index.sqlite3")  # noqa: PTH108
    handler.done.clear()


def test_after_a_crash_an_action_that_was_done_is_not_taken_again(
    make: Make, journal: Journal, source: RecordedSource
) -> None:
    teller = Teller()
    open_intents(journal, teller, make(teller))
    teller.answer = True
    source.signals = []  # the state has moved on: it is looked up nevertheless
    report = make(teller).run_once()
    assert teller.done == []
    assert phases(journal) == [Phase.INTENT, Phase.RESULT]
    assert [result.success for result in report.results] == [True]


def test_after_a_crash_an_action_that_was_not_done_is_taken(make: Make, journal: Journal) -> None:
    teller = Teller()
    open_intents(journal, teller, make(teller))
    make(teller).run_once()
    assert [job.attempt for job in teller.done] == [2]
    assert phases(journal) == [Phase.INTENT, Phase.INTERRUPTED, Phase.INTENT, Phase.RESULT]


def test_after_a_crash_nothing_is_done_before_it_can_be_looked_up(
    make: Make, journal: Journal
) -> None:
    teller = Teller()
    open_intents(journal, teller, make(teller))
    teller.answer = OSError("the forge is away")
    poller = make(teller)
    poller.run_once()
    assert phases(journal) == [Phase.INTENT]
    teller.answer = False
    poller.run_once()
    assert len(teller.done) == 1


def test_an_open_action_without_a_signal_does_not_block_others(
    make: Make, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write([intent(1, signal={"odd": 1})])
    handler = Teller("enable_auto_merge")
    make(handler).run_once()
    assert len(handler.done) == 1
    assert "action id-1 is open: cannot use the signal of action id-1" in caplog.text


def test_a_handler_that_cannot_look_up_never_acts_twice(make: Make, journal: Journal) -> None:
    actor = Actor()
    open_intents(journal, actor, make(actor))
    poller = make(actor)
    poller.run_once()
    poller.run_once()
    assert actor.done == []
    assert phases(journal) == [Phase.INTENT, Phase.UNKNOWN]
    assert "cannot check whether it was done" in last(journal).error


def test_a_failed_action_is_tried_again_later_and_less_often(
    make: Make, clock: FakeClock, source: RecordedSource
) -> None:
    tried: list[int] = []

    def fail(*_: object) -> str:
        tried.append((clock.now() - FakeClock().now()).seconds // 60)
        return "no"

    teller = Teller(do=fail)
    poller = make(teller, attempts=5)
    for _ in range(60):
        poller.run_once()
        clock.advance(60)
    assert tried == [0, 1, 3, 7, 15]
    assert [job.attempt for job in teller.done] == [1, 2, 3, 4, 5]
    assert len(teller.asked) == 4
    assert len({job.id for job in teller.done}) == 1
    assert {job.first_tried for job in teller.done} == {FakeClock().now()}
    assert len(source.reports) == 5


def test_a_failed_action_that_turns_out_to_be_done_is_not_taken_again(
    make: Make, clock: FakeClock
) -> None:
    teller = Teller(do=lambda *_: "no answer")
    poller = make(teller)
    poller.run_once()
    teller.answer = True
    clock.advance(60)
    assert [result.success for result in poller.run_once().results] == [True]
    assert len(teller.done) == 1


def test_a_failed_action_of_a_handler_that_cannot_look_up_is_not_retried(
    make: Make, clock: FakeClock
) -> None:
    actor = Actor(do=lambda *_: "no")
    poller = make(actor)
    for _ in range(5):
        poller.run_once()
        clock.advance(3600)
    assert len(actor.done) == 1
