"""Nothing that sources and handlers do makes a poller stand still."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.jobrunner import (
    FakeClock,
    Journal,
    Poller,
    PollerConfig,
    RecordedSource,
    SystemClock,
)
from jobs.actors import Actor, Gate
from jobs.samples import signal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.jobrunner import PipelineSignal
    from jobs.polling import Make

HOUR = 3600.0


class Moody(RecordedSource):
    """Answers, fails, or hangs until it is released, as its moods say; in the end it answers."""

    def __init__(self, name: str, moods: Iterable[str]) -> None:
        super().__init__([signal(repo_name=name)], name=name)
        self.moods = list(moods)
        self.asked = 0
        self.release = threading.Event()
        self.back = threading.Semaphore(0)

    def poll(self) -> list[PipelineSignal]:
        self.asked += 1
        mood = self.moods.pop(0) if self.moods else "answer"
        try:
            if mood.startswith("hang"):
                assert self.release.wait(30)
            if mood.endswith("fail"):
                raise OSError("no answer")
            return list(self.signals)
        finally:
            self.back.release()


moods = st.lists(st.sampled_from(["answer", "fail", "hang", "hang fail"]), max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(moods, min_size=1, max_size=4), st.integers(1, 3))
def test_every_source_is_acted_on_once_it_is_well_again(plan: list[list[str]], sick: int) -> None:
    sources = [Moody(f"s{number}", some) for number, some in enumerate(plan)]
    clock = FakeClock()
    actor = Actor()
    with (
        tempfile.TemporaryDirectory() as base,
        Journal(base) as journal,
        Poller(PollerConfig(sources, [actor], journal, clock=clock, poll_timeout=0.02)) as poller,
    ):
        for _ in range(sick):
            poller.run_once()
            clock.advance(HOUR)
        for source in sources:
            source.release.set()
            source.signals = [signal(repo_name=source.name, last_commit_sha="well")]
        until = time.monotonic() + 10
        well: set[str] = set()
        while well != {source.name for source in sources} and time.monotonic() < until:
            poller.run_once()
            clock.advance(HOUR)
            well = {
                job.signal.repo_name for job in actor.done if job.signal.last_commit_sha == "well"
            }
    assert well == {source.name for source in sources}


def test_an_answer_that_is_late_is_acted_on(make: Make) -> None:
    source = Moody("late", ["hang"])
    actor = Actor()
    poller = make(actor, sources=[source], poll_timeout=0.5)  # one that is over 5 s late is dropped
    assert "has not answered" in poller.run_once().failures["late"]
    source.release.set()
    assert source.back.acquire(timeout=30)
    for _ in range(1000):
        if poller.run_once().results:
            break
    assert len(actor.done) == 1


def test_a_slow_action_does_not_delay_the_polls_of_others(make: Make) -> None:
    gate = Gate()
    slow = Actor("slow", do=gate, wants=lambda seen: seen.repo_name == "slow")
    fast = Actor("fast", wants=lambda seen: seen.repo_name == "fast")
    first = RecordedSource([signal(repo_name="slow")], name="slow")
    second = RecordedSource(name="fast")
    poller = make(slow, fast, sources=[first, second], clock=SystemClock(), poll_interval=0.01)
    thread = threading.Thread(target=poller.run)
    thread.start()
    gate.wait()
    arrived = threading.Event()
    fast.do = lambda *_: arrived.set()
    second.signals = [signal(repo_name="fast")]
    assert arrived.wait(30)
    assert [job.action for job in slow.done] == ["slow"]
    poller.stop()
    gate.opened.set()
    thread.join(30)
    assert {entry.action: entry.success for entry in poller.config.journal.entries()} == {
        "slow": True,
        "fast": True,
    }


def test_what_runs_when_it_is_stopped_between_two_cycles_is_recorded(make: Make) -> None:
    gate = Gate()
    poller = make(Actor(do=gate), clock=SystemClock(), poll_interval=0.01)
    thread = threading.Thread(target=poller.run)
    thread.start()
    gate.wait()
    while poller.cycle < 3:
        pass
    poller.stop()
    gate.opened.set()
    thread.join(30)
    (*_, last) = poller.config.journal.entries()
    assert last.success
