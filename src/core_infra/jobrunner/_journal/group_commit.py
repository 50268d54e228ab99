"""Group commit: many threads write, and one of them brings all of it to the disk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Collects what threads write while the disk is busy, and writes it together.

    It has no thread of its own: the first thread of a batch writes for all that join the batch
    before its turn. A single writer has no cost besides its own write.

    Args:
        commit: writes the items; its result is returned to each writer.
    """

    def __init__(self, commit: Callable[[Sequence[T]], R]) -> None:
        self._commit = commit
        self._joining = threading.Lock()
        self._turn = threading.Lock()
        self._batch: _Batch[T, R] | None = None

    def write(self, items: Sequence[T]) -> R:
        """Write items, together with those of other threads.

        Returns:
            The result of the commit that wrote them.

        Raises:
            Exception: what that commit raised.
            UnavailableError: the thread that had to write was interrupted, as by Ctrl-C.
        """
        if self._batch is None and self._turn.acquire(blocking=False):  # no batch to join
            try:
                return self._commit(items)
            finally:
                self._turn.release()
        with self._joining:
            batch, first = self._batch, False
            if batch is None:
                batch, first = _Batch(), True
                self._batch = batch
            batch.items.extend(items)
        if first:
            self._lead(batch)
        else:
            with batch.done:  # each waiter lets the next one pass
                pass
        if batch.error is not None:
            if first or isinstance(batch.error, Exception):
                raise batch.error
            raise UnavailableError("cannot write", why="the thread that wrote was interrupted")
        return batch.result  # type: ignore[return-value]  # set, as there is no error

    def _lead(self, batch: _Batch[T, R]) -> None:
        try:
            with self._turn:
                self._close(batch)
                batch.result = self._commit(batch.items)
        except BaseException as error:  # noqa: BLE001 - each waiter raises it
            self._close(batch)
            batch.error = error
        finally:
            batch.done.release()

    def _close(self, batch: _Batch[T, R]) -> None:
        with self._joining:
            if self._batch is batch:
                self._batch = None


class _Batch(Generic[T, R]):
    def __init__(self) -> None:
        self.items: list[T] = []
        # A locked lock costs each waiter a third of an Event.
        self.done = threading.Lock()
        self.done.acquire()
        self.result: R | None = None
        self.error: BaseException | None = None
