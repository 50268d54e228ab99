"""Threads that are made when needed: nobody waits for another's task, and no task is forgotten."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from core_infra.jobrunner.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 40


@pytest.fixture
def executor() -> Iterator[DaemonThreads]:
    executor = DaemonThreads("test-threads")
    yield executor
    executor.shutdown()
    assert not ours()


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "test-threads"]


def test_tasks_that_wait_for_each_other_all_run_at_once(executor: DaemonThreads) -> None:
    for _ in range(20):  # first with new threads, then with old ones
        together = threading.Barrier(COUNT)
        futures = [executor.submit(together.wait, 30) for _ in range(COUNT)]
        assert sorted(future.result(30) for future in futures) == [*range(COUNT)]
    assert len(ours()) == COUNT


def test_a_task_that_hangs_holds_up_nobody(executor: DaemonThreads) -> None:
    go_on = threading.Event()
    hanging = executor.submit(go_on.wait, 30)
    assert [executor.submit(pow, number, 2).result(30) for number in range(100)]
    assert not hanging.done()
    go_on.set()
    assert hanging.result(30)


def test_tasks_of_many_threads_at_once_are_all_done_once(executor: DaemonThreads) -> None:
    done: list[tuple[int, int]] = []

    def submit(number: int) -> None:
        for each in range(500):
            executor.submit(done.append, (number, each))
            if each % 50 == number:
                time.sleep(0)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    executor.shutdown()  # what waits is done first
    assert sorted(done) == [(number, each) for number in range(8) for each in range(500)]


def test_what_a_task_raises_is_for_who_asks(executor: DaemonThreads) -> None:
    failed = executor.submit(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        failed.result(30)
    assert executor.submit(int, "1").result(30) == 1


def test_without_new_threads_the_old_ones_do_it(
    executor: DaemonThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    go_on = threading.Event()
    busy = executor.submit(go_on.wait, 30)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    later = executor.submit(int, "1")
    go_on.set()
    assert busy.result(30)
    assert later.result(30) == 1
    with pytest.raises(RuntimeError, match="can't start"):
        DaemonThreads("none").submit(int, "1")
