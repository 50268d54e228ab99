"""Threads that are started on demand: no task waits for another, and none is forgotten."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.jobrunner._threads import DaemonThreads, NotStartedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = 40


class Threads(DaemonThreads):
    """Remembers what came of each call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answers: SimpleQueue[Any] = SimpleQueue()

    def begin(self, fn: Callable[..., object], *args: object) -> None:
        self.call(self.answers.put, fn, *args)


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads("test-threads")
    yield threads
    threads.close()
    for thread in ours():
        thread.join(30)
    assert not ours()


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "test-threads"]


def test_tasks_that_wait_for_each_other_all_run_at_once(threads: Threads) -> None:
    for _ in range(20):  # first with new threads, then with old ones
        together = threading.Barrier(COUNT)
        for _ in range(COUNT):
            threads.begin(together.wait, 30)
        assert sorted(threads.answers.get(timeout=30) for _ in range(COUNT)) == [*range(COUNT)]
    assert len(ours()) == COUNT


def test_a_task_that_hangs_delays_no_other(threads: Threads) -> None:
    go_on = threading.Event()
    threads.begin(go_on.wait, 30)
    for number in range(100):
        threads.begin(pow, number, 2)
        assert threads.answers.get(timeout=30) == number**2
    go_on.set()
    assert threads.answers.get(timeout=30) is True


def test_tasks_of_many_threads_at_once_are_all_done_once(threads: Threads) -> None:
    done: list[tuple[int, int]] = []

    def begin(number: int) -> None:
        for each in range(500):
            threads.begin(done.append, (number, each))
            if each % 50 == number:
                time.sleep(0)

    beginners = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in beginners:
        thread.start()
    for thread in beginners:
        thread.join(30)
    threads.close()  # what waits is done first
    for thread in ours():
        thread.join(30)
    assert sorted(done) == [(number, each) for number in range(8) for each in range(500)]


def test_the_caller_gets_what_a_task_raises(threads: Threads) -> None:
    threads.begin(int, "no number")
    assert isinstance(threads.answers.get(timeout=30), ValueError)
    threads.begin(int, "1")
    assert threads.answers.get(timeout=30) == 1


def test_without_new_threads_the_old_ones_do_it(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    go_on = threading.Event()
    threads.begin(go_on.wait, 30)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads.begin(int, "1")
    go_on.set()
    assert sorted(threads.answers.get(timeout=30) for _ in range(2)) == [1, True]
    none = Threads("none")
    none.begin(int, "1")
    assert "can't start" in str(none.answers.get_nowait())
    assert none.answers.empty()


def test_an_interrupted_caller_learns_that_the_task_is_not_started(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waited:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_lock", Waited())  # where a Ctrl-C finds him most likely
        with pytest.raises(KeyboardInterrupt):
            threads.begin(int, "1")
    assert isinstance(threads.answers.get_nowait(), NotStartedError)
    threads.begin(int, "2")
    assert threads.answers.get(timeout=30) == 2
