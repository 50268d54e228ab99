"""A file that appears when it is closed."""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING, cast

from core_infra.errors import WrongStateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class AtomicWriter(io.BufferedWriter):
    """Buffers into *raw*; closing commits, anything else abandons.

    Args:
        raw: takes the bytes; closed at the end, last of all.
        commit: makes what *raw* has got visible; called once, after the last flush.
        abandon: removes every trace of it; called instead, or when the commit failed.
    """

    def __init__(
        self, raw: io.RawIOBase, commit: Callable[[], None], abandon: Callable[[], None]
    ) -> None:
        super().__init__(raw, 1 << 16)
        self._process = os.getpid()
        self._commit = commit
        self._abandon = abandon

    def close(self) -> None:
        """Make the file visible under its name.

        Raises:
            CoreInfraError: it could not be written; the path is as it was.
            WrongStateError: another process opened the file, and this one is a fork of it.
        """
        if self.closed:
            return
        if os.getpid() != self._process:
            self.abandon()
            raise WrongStateError(
                "cannot finish the file in this process",
                why="the process that this one was forked from writes it",
                todo="Finish it there, or open it after the fork.",
                needed=f"process {self._process}",
                found=f"process {os.getpid()}",
            )
        try:
            self.flush()
            self._commit()
        except BaseException:
            self.abandon()
            raise
        self.raw.close()

    def abandon(self) -> None:
        """Drop what was written; the path stays as it was.

        In a fork of the process that writes the file, only close it: it is that process's.
        """
        if self.closed:
            return
        try:
            if os.getpid() == self._process:
                self._abandon()
        finally:
            self.raw.close()  # before the base class could flush what is still in the buffer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        if not self.closed:  # the base class would close, and so commit half a file
            mine = os.getpid() == self._process
            self.abandon()
            if not mine:
                return
            warnings.warn(f"never closed, so not written: {self!r}", ResourceWarning, stacklevel=2)


def writer_in_memory(write: Callable[[bytes], None]) -> AtomicWriter:
    """Make a writer that keeps all in memory, and hands it to *write* when it is closed."""
    buffer = io.BytesIO()
    # A BufferedWriter asks of its raw file nothing that BytesIO lacks.
    raw = cast("io.RawIOBase", buffer)
    return AtomicWriter(raw, lambda: write(buffer.getvalue()), lambda: None)
