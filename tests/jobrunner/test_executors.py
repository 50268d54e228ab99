"""Actions run on threads of ours or on a user's executor; what neither takes is tried again."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.jobrunner import Journal, Phase, RecordedSource
from jobs.actors import Actor, Elsewhere, Gate, Teller
from jobs.polling import last, phases
from jobs.samples import signal

if TYPE_CHECKING:
    from jobs.polling import Make


def test_handlers_run_on_any_executor(
    make: Make, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The new process imports the main module: a start script without a guard would run the tests.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        make(Elsewhere(), executor=pool).run_once()
    assert last(journal).error == f"not in {os.getpid()}"


class Refusing(concurrent.futures.ThreadPoolExecutor):
    """Takes nothing at first, as a cluster whose scheduler is away."""

    def __init__(self, refusals: int) -> None:
        super().__init__(4)
        self.refusals = refusals

    def submit(self, *args: Any, **options: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise OSError("the scheduler is away")
        return super().submit(*args, **options)


@pytest.mark.parametrize("kind", [Actor, Teller])
def test_a_call_that_an_executor_refuses_is_retried(
    make: Make, journal: Journal, caplog: pytest.LogCaptureFixture, kind: type[Actor]
) -> None:
    actor = kind()
    signals = [signal(child_number=n, pr_number=n) for n in range(1, 4)]
    with Refusing(1) as pool:
        poller = make(actor, sources=[RecordedSource(signals)], executor=pool)
        assert [result.success for result in poller.run_once().results] == [True] * 2
        assert "the executor refuses it: the scheduler is away" in caplog.text
        assert [entry.phase for entry in journal.entries()].count(Phase.WITHDRAWN) == 1
        assert [result.success for result in poller.run_once().results] == [True]
        assert poller.run_once().results == []
    assert sorted(job.signal.pr_number for job in actor.done) == [1, 2, 3]


def test_a_call_that_is_cancelled_before_it_starts_is_retried(make: Make, journal: Journal) -> None:
    gate = Gate()
    actor = Actor(do=gate)
    signals = [signal(child_number=n, pr_number=n) for n in range(1, 4)]
    pool = concurrent.futures.ThreadPoolExecutor(1)
    poller = make(actor, sources=[RecordedSource(signals)], executor=pool)
    thread = threading.Thread(target=poller.run_once)
    thread.start()
    gate.wait()
    while len(phases(journal)) < 3 or pool._work_queue.qsize() < 2:
        time.sleep(0.001)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.opened.set()
    thread.join(30)
    assert sorted(phases(journal)) == ["intent"] * 3 + ["result"] + ["withdrawn"] * 2
    poller.close()
    again = Actor()
    make(again, sources=[RecordedSource(signals)]).run_once()
    assert len(again.done) == 2


def test_a_call_that_an_executor_has_not_started_in_time_is_cancelled(
    make: Make, journal: Journal
) -> None:
    gate = Gate()
    actor = Actor(do=gate)
    signals = [signal(child_number=n, pr_number=n) for n in range(1, 4)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        poller = make(actor, sources=[RecordedSource(signals)], executor=pool, job_timeout=0.05)
        report = poller.run_once()
        assert ["has not ended" in result.error for result in report.results] == [True]
        assert sorted(phases(journal)) == ["intent"] * 3 + ["unknown"] + ["withdrawn"] * 2
        gate.opened.set()
    poller.close()
    again = Actor()
    make(again, sources=[RecordedSource(signals)]).run_once()
    assert len(again.done) == 2


@pytest.mark.parametrize("which", ["job", "recorder", "source"])
def test_a_thread_that_cannot_be_had_costs_nothing_for_good(
    make: Make, journal: Journal, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == f"core-infra-{which}" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    actor = Actor()
    poller = make(actor)
    for _ in range(4):
        poller.run_once()
    assert refused
    assert actor.commits == ["abc"]
    assert last(journal).phase is Phase.RESULT
