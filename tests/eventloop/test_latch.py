"""A latch wakes all that wait, whatever has happened to others that waited."""

from __future__ import annotations

import random
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from core_infra._eventloop.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupted(BaseException):
    """What the signal of a timer raises."""


@pytest.fixture
def rng() -> Iterator[random.Random]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    old = signal.signal(signal.SIGALRM, interrupt)
    yield random.Random()  # noqa: S311 - no secret
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def test_all_who_wait_are_let_go_and_all_who_come_later() -> None:
    latch = Latch()
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(latch.wait())) for _ in range(50)]
    for thread in threads:
        thread.start()
    latch.set()
    for thread in threads:
        thread.join(30)
    assert results == [True] * 50
    assert latch.is_set()
    assert latch.wait(0)


@pytest.mark.parametrize("timeout", [-1.0, 0, 0.001])
def test_wait_reports_that_its_time_is_over(timeout: float) -> None:
    assert not Latch().wait(timeout)


def test_a_wait_may_be_longer_than_the_system_can_tell() -> None:
    latch = Latch()
    threading.Timer(0.01, latch.set).start()
    assert latch.wait(1e300)


def test_to_set_it_twice_and_at_once_is_no_error() -> None:
    for _ in range(200):
        latch = Latch()
        waiting = threading.Thread(target=latch.wait)
        setting = [threading.Thread(target=latch.set) for _ in range(2)]
        for thread in (waiting, *setting):
            thread.start()
        for thread in (waiting, *setting):
            thread.join(30)
            assert not thread.is_alive()


def test_an_interrupted_wait_holds_up_nobody(rng: random.Random) -> None:
    interrupted = 0
    for _ in range(2000):
        latch = Latch()
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 1e-4))
            latch.wait(0.001)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            interrupted += 1
        setting = threading.Thread(target=latch.set)
        setting.start()
        setting.join(30)
        assert not setting.is_alive()
        assert latch.wait(0)
    assert interrupted
