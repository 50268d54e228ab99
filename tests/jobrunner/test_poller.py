"""A poller acts once for each state, and writes everything down."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import AlreadyExistsError, CoreInfraError, InvalidError
from core_infra.jobrunner import Journal, Phase, RecordedSource
from core_infra.medium._errors import StorageError
from jobs.actors import Actor, Planner
from jobs.polling import last, phases
from jobs.samples import signal

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.jobrunner import ActionResult, FakeClock, Job, PipelineSignal
    from jobs.polling import Make


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


@pytest.mark.parametrize(
    ("success", "error", "told"),
    [
        (False, b"no such \xff branch", "no such \ufffd branch"),
        (True, None, "whose error is of the type NoneType"),
        ("yes", "", "whose success is of the type str"),
    ],
)
def test_a_result_of_wrong_types_harms_no_other(
    make: Make, journal: Journal, success: Any, error: Any, told: str
) -> None:
    together = threading.Barrier(4)  # so that their results are written in one go

    def execute(seen: PipelineSignal, job: Job) -> ActionResult:
        together.wait(30)
        if seen.pr_number == 1:
            return dataclasses.replace(job.done(), success=success, error=error)
        return job.done()

    actor = Actor()
    actor.execute = execute  # type: ignore[assignment, method-assign]
    signals = [signal(child_number=0, pr_number=n) for n in range(1, 5)]
    make(actor, sources=[RecordedSource(signals)]).run_once()
    ends = {entry.pr: entry for entry in journal.entries() if entry.phase is Phase.RESULT}
    assert [ends[number].success for number in range(1, 5)] == [False, True, True, True]
    assert told in ends[1].error


def test_an_error_without_a_text_is_reported_by_its_name(make: Make, journal: Journal) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("not even this")

    def fail(*_: object) -> None:
        raise MuteError

    source = RecordedSource(name="mute")
    source.error = MuteError()
    report = make(Actor(do=fail), sources=[source, RecordedSource([signal()])]).run_once()
    assert report.failures == {"mute": "MuteError"}
    assert last(journal).error == "MuteError"


@pytest.mark.parametrize("answer", [ValueError("no idea"), ["7"]])
def test_a_handler_that_cannot_say_what_it_touches_stops_no_other(
    make: Make, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    def touches(_: PipelineSignal) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    first, second = Actor("a", wants=lambda seen: seen.pr_number == 5), Actor("b")
    first.touches = touches  # type: ignore[attr-defined]
    signals = [signal(), signal(pr_number=6)]
    make(first, second, sources=[RecordedSource(signals)]).run_once()
    assert first.commits == []
    assert [job.signal.pr_number for job in second.done] == [6]
    assert "handler a cannot say what acme/widgets#5 touches" in caplog.text


def test_the_first_handler_that_matches_wins_and_one_that_raises_is_passed_over(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: PipelineSignal) -> bool:
        raise ZeroDivisionError

    first, second, third = Actor("a", wants=broken), Actor("b"), Actor("c")
    make(first, second, third).run_once()
    assert (first.commits, second.commits, third.commits) == ([], ["abc"], [])
    assert "handler a cannot match: ZeroDivisionError" in caplog.text


def test_a_dry_run_lists_actions_and_does_nothing(make: Make, journal: Journal) -> None:
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
def test_an_item_without_a_possible_file_is_reported_and_the_others_are_acted_on(
    make: Make, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    actor = Actor()
    nameless = signal(**{field: ""})
    report = make(actor, sources=[RecordedSource([nameless, signal()])]).run_once()
    assert [job.signal.repo_full_name for job in actor.done] == ["acme/widgets"]
    assert len(report.results) == 1
    told = f"source recorded: signal 1 is skipped: {nameless.item} names no repository"
    assert told in caplog.text


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
        (5, "cannot add 5 as a handler: it lacks match(), execute(), name"),
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
def test_an_object_that_is_not_a_handler_is_refused(make: Make, handler: Any, told: str) -> None:
    poller = make()
    for add in (poller.add_handler, make):
        with pytest.raises(InvalidError) as caught:
            add(handler)
        assert told in str(caught.value)
        assert len(str(caught.value)) < 400


def test_an_object_that_is_not_a_source_is_refused(make: Make) -> None:
    with pytest.raises(InvalidError, match=r"it lacks poll\(\), report\(\)"):
        make(sources=[Actor()])


def test_an_error_on_one_line_is_still_sentences(make: Make, source: RecordedSource) -> None:
    source.error = CoreInfraError("no token", why="X is not set", todo="Put one there.")
    poller = make()
    assert poller.run_once().failures == {"recorded": "no token: X is not set. Put one there."}
    source.error = CoreInfraError("It is odd.", todo="Look.")
    assert poller.run_once().failures == {"recorded": "It is odd. Look."}
