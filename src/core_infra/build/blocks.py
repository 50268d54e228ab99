"""Work on many blocks at once, with results in order and little memory."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")


def usable_cpus() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """Do *work* on each item in several threads, and yield the results in the items' order.

    At most twice as many items as there are threads are on their way, so the memory needed does
    not grow with their number.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="core-infra-archive")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def regroup(chunks: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream into blocks of one size, each with whether it is the last; one at least."""
    parts: list[bytes] = []
    have = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while have + len(view) > size:  # what is full is yielded once more is there: so not last
            parts.append(bytes(view[: size - have]))
            yield b"".join(parts), False
            view = view[size - have :]
            parts, have = [], 0
        if view:
            parts.append(bytes(view))
            have += len(view)
    yield b"".join(parts), True
