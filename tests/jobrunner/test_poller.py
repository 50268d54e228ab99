"""A poller acts once for each state, writes everything down, and lets nothing stop it."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import AlreadyExistsError, CoreInfraError, InvalidError
from core_infra.jobrunner.clock import FakeClock
from core_infra.jobrunner.config import PollerConfig
from core_infra.jobrunner.journal import Entry, Journal, Phase
from core_infra.jobrunner.leader import NotLeaderError
from core_infra.jobrunner.poller import Poller
from core_infra.jobrunner.sources import RecordedSource
from core_infra.medium.errors import StorageError
from jobrunner.actors import Actor, Elsewhere, Gate, Planner, Teller
from jobrunner.samples import intent, signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.jobrunner.ports import Job
    from core_infra.jobrunner.signal import PipelineSignal

    Make = Callable[..., Poller]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source() -> RecordedSource:
    return RecordedSource([signal()])


@pytest.fixture
def make(journal: Journal, source: RecordedSource, clock: FakeClock) -> Iterator[Make]:
    made: list[Poller] = []

    def make(*handlers: Any, sources: Any = None, **options: Any) -> Poller:
        given: dict[str, Any] = {"journal": journal, "clock": clock, "grace_period": 30.0} | options
        poller = Poller(PollerConfig(sources=sources or [source], handlers=handlers, **given))
        made.append(poller)
        return poller

    yield make
    for poller in made:
        poller.close()


def phases(journal: Journal) -> list[Phase]:
    return [entry.phase for entry in journal.entries()]


def last(journal: Journal) -> Entry:
    return list(journal.entries())[-1]


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


def test_an_action_is_taken_once_for_each_state(make: Make, source: RecordedSource) -> None:
    actor = Actor()
    poller = make(actor)
    for _ in range(3):
        poller.run_once()
    assert actor.commits == ["abc"]
    source.signals = [signal(last_commit_sha="def")]
    poller.run_once()
    poller.run_once()
    assert actor.commits == ["abc", "def"]
    source.signals = [signal(last_commit_sha="def", issue_title="not looked at")]
    poller.run_once()
    assert actor.commits == ["abc", "def"]
    assert poller.cycle == 6


def test_it_is_not_taken_again_by_the_next_process(
    base: Path, make: Make, clock: FakeClock
) -> None:
    actor = Actor()
    poller = make(actor)
    poller.run_once()
    poller.close()
    for _ in range(2):
        with Journal(base) as journal:
            again = make(actor, journal=journal)
            again.run_once()
            again.close()
        (base / ".index.sqlite3").unlink()  # the second time, with an index made anew
    clock.advance(0)
    assert actor.commits == ["abc"]


def test_the_intent_is_on_the_disk_before_the_action_begins(base: Path, make: Make) -> None:
    found: list[dict[str, Any]] = []

    def look(*_: object) -> None:
        (file,) = base.rglob("*.jsonl")
        found.extend(json.loads(line) for line in file.read_text().splitlines())

    report = make(Actor(do=look)).run_once()
    (intent,) = found
    assert intent["phase"] == "intent"
    assert intent["signal"]["last_commit_sha"] == "abc"
    assert "result" not in intent
    assert [result.success for result in report.results] == [True]


def test_a_failure_is_written_down_and_reported(
    make: Make, journal: Journal, source: RecordedSource
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the forge\nis away")

    report = make(Actor(do=fail)).run_once()
    entry = last(journal)
    assert (entry.success, entry.error) == (False, "the forge is away")
    assert [result.error for result in report.results] == ["the forge is away"]
    assert source.reports == report.results


def test_a_handler_may_say_why_it_failed(make: Make, journal: Journal) -> None:
    make(Actor(do=lambda *_: "not today")).run_once()
    assert last(journal).error == "not today"


def test_a_wrong_answer_of_a_handler_is_a_failure(make: Make, journal: Journal) -> None:
    actor = Actor()
    actor.execute = lambda *_: None  # type: ignore[assignment, method-assign]
    make(actor).run_once()
    assert last(journal).error == "the handler returned NoneType instead of an ActionResult"


def test_the_first_handler_that_matches_wins_and_one_that_raises_is_passed_over(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: PipelineSignal) -> bool:
        raise ZeroDivisionError

    first, second, third = Actor("a", wants=broken), Actor("b"), Actor("c")
    make(first, second, third).run_once()
    assert (first.commits, second.commits, third.commits) == ([], ["abc"], [])
    assert "handler a cannot match: ZeroDivisionError" in caplog.text


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


def test_an_action_that_takes_too_long_is_given_up_and_its_item_left_alone(
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


def test_stopping_lets_running_actions_end_and_begins_no_others(
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            again.run_once()
            break
        except NotLeaderError:
            time.sleep(0.001)
    assert phases(journal) == ["intent", "result"]
    assert actor.commits == ["abc"]


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


def test_an_open_action_whose_signal_is_none_keeps_nobody_from_acting(
    make: Make, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write([intent(1, signal={"odd": 1})])
    handler = Teller("enable_auto_merge")
    make(handler).run_once()
    assert len(handler.done) == 1
    assert "action id-1 is open: cannot use the signal of action id-1" in caplog.text


def test_a_handler_that_cannot_tell_never_acts_twice(make: Make, journal: Journal) -> None:
    actor = Actor()
    open_intents(journal, actor, make(actor))
    poller = make(actor)
    poller.run_once()
    poller.run_once()
    assert actor.done == []
    assert phases(journal) == [Phase.INTENT, Phase.UNKNOWN]
    assert "cannot tell whether it was done" in last(journal).error


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


def test_a_failed_action_of_a_handler_that_cannot_tell_is_left(
    make: Make, clock: FakeClock
) -> None:
    actor = Actor(do=lambda *_: "no")
    poller = make(actor)
    for _ in range(5):
        poller.run_once()
        clock.advance(3600)
    assert len(actor.done) == 1


def test_a_dry_run_tells_and_does_nothing(make: Make, journal: Journal) -> None:
    planner = Planner()
    poller = make(planner, dry_run=True)
    (rehearsal,) = poller.run_once().rehearsals
    assert rehearsal.steps == ["greet abc as act"]
    assert planner.done == []
    assert journal.files() == []
    poller.dry_run = False
    poller.run_once()
    poller.dry_run = True
    assert poller.run_once().rehearsals == []  # it has been done
    assert len(planner.done) == 1


def test_one_handler_alone_can_run_dry(make: Make) -> None:
    dry = Planner("dry", wants=lambda seen: seen.child_number == 4)
    wet = Actor("wet")
    other = signal(child_number=6, pr_number=7)
    poller = make(dry, wet, sources=[RecordedSource([signal(), other])], dry_run_handlers={"dry"})
    report = poller.run_once()
    assert (dry.done, len(wet.done), len(report.rehearsals)) == ([], 1, 1)


def test_a_dry_run_beside_the_poller_that_acts(make: Make) -> None:
    make(Actor()).run_once()
    assert make(Planner("other"), dry_run=True).run_once().rehearsals


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
    assert cycles[1] - cycles[0] == timedelta(seconds=60)


def test_what_is_added_during_a_cycle_waits_for_the_next_one(make: Make) -> None:
    late = Actor("late")
    poller = make(Actor(wants=lambda _: False))

    def wants(_: PipelineSignal) -> bool:
        poller.add_handler(late)
        return False

    add = Actor("add", wants=wants)
    poller.add_handler(add)
    poller.run_once()
    assert late.done == []
    add.wants = lambda _: False
    poller.run_once()
    assert len(late.done) == 1


def test_names_are_unique(make: Make, source: RecordedSource) -> None:
    poller = make(Actor())
    with pytest.raises(AlreadyExistsError, match="cannot add the handler 'act'"):
        poller.add_handler(Actor())
    with pytest.raises(AlreadyExistsError, match="cannot add the source 'recorded'"):
        poller.add_source(source)


def test_no_action_begins_whose_intent_cannot_be_written(
    make: Make, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    actor = Actor()
    poller = make(actor)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(StorageError, match="No space left"):
            poller.run_once()
    assert actor.done == []
    assert phases(journal) == []
    poller.run_once()
    assert len(actor.done) == 1


@pytest.mark.parametrize("field", ["repo_owner", "repo_name"])
def test_an_item_that_no_file_can_be_for_is_told_and_the_others_are_acted_on(
    make: Make, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    actor = Actor()
    nameless = signal(**{field: ""})
    report = make(actor, sources=[RecordedSource([nameless, signal()])]).run_once()
    assert [job.signal.repo_full_name for job in actor.done] == ["acme/widgets"]
    assert len(report.results) == 1
    assert f"source recorded: the signal {nameless.item} names no repository" in caplog.text


@pytest.mark.parametrize("names", [["a", "dryy"], ["dry@host"], "dry"])
def test_a_dry_handler_that_is_not_there_is_refused(make: Make, names: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        make(Planner("a"), Planner("dry"), dry_run_handlers=names)
    if names != "dry":
        assert f"there is no handler {names[-1]!r}" in str(caught.value)
        assert "The handlers are: a, dry." in str(caught.value)


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (5, "cannot add 5 as a handler: it has no match(), no execute(), no name"),
        (None, "cannot add None as a handler"),
        (object(), "A handler has a name, match(), execute()"),
        (Actor, "cannot add Actor as a handler: it is a class"),
        (Actor(""), "whose name is ''"),
        (Actor("a/b"), "whose name is 'a/b'"),
        (Actor(".."), "whose name is '..'"),
        (Actor("a\nb"), "characters that can be printed"),
        (Actor("x" * 5000), "one of 1 to 200 characters"),
        (Actor(5), "whose name is 5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_handler_is_refused(make: Make, handler: Any, told: str) -> None:
    poller = make()
    for add in (poller.add_handler, make):
        with pytest.raises(InvalidError) as caught:
            add(handler)
        assert told in str(caught.value)
        assert len(str(caught.value)) < 400


def test_what_is_no_source_is_refused(make: Make) -> None:
    with pytest.raises(InvalidError, match=r"it has no poll\(\), no report\(\)"):
        make(sources=[Actor()])


def test_an_error_on_one_line_is_still_sentences(make: Make, source: RecordedSource) -> None:
    source.error = CoreInfraError("no token", why="X is not set", todo="Put one there.")
    poller = make()
    assert poller.run_once().failures == {"recorded": "no token: X is not set. Put one there."}
    source.error = CoreInfraError("It is odd.", todo="Look.")
    assert poller.run_once().failures == {"recorded": "It is odd. Look."}


def test_handlers_run_on_any_executor(make: Make, journal: Journal) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        make(Elsewhere(), executor=pool).run_once()
    assert last(journal).error == f"not in {os.getpid()}"
