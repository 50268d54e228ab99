from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from core_infra.framework import Bus
from framework_support import Diary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def in_threads() -> Iterator[Callable[[Callable[[int], None], int], None]]:
    """Runs a function in threads that begin together and take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield run_in_threads
    sys.setswitchinterval(before)


def run_in_threads(work: Callable[[int], None], count: int) -> None:
    errors: list[BaseException] = []
    begin = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            begin.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def diary() -> Diary:
    return Diary()
