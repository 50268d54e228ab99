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

    from _typeshed import ReadableBuffer


class AtomicWriter(io.BufferedWriter):
    """A buffered writer: closing it commits the file, an exception in its block discards it.

    :meth:`Medium.create` returns it. Authors of a medium can create one:

    Args:
        raw: receives the bytes; closed last.
        commit: makes the content of *raw* visible; called once, after the last flush.
        abandon: removes the content; called instead of *commit*, or if that fails.
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
            CoreInfraError: writing failed; the path is as it was.
            WrongStateError: the file was opened before this process was forked.
        """
        if self.closed:
            return
        if os.getpid() != self._process:
            self.abandon()
            raise _of_another_process("finish", self._process)
        try:
            self.flush()
            self._commit()
        except BaseException:
            self.abandon()
            raise
        self.raw.close()

    def abandon(self) -> None:
        """Discard the content; the path stays as it was.

        In a forked process, only the descriptor is closed: the file belongs to the parent.
        """
        if self.closed:
            return
        try:
            if os.getpid() == self._process:
                self._abandon()
        finally:
            self.raw.close()  # before the base class can flush its buffer

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
        if not self.closed:  # the base class would close, and so commit an incomplete file
            mine = os.getpid() == self._process
            self.abandon()
            if not mine:
                return
            warnings.warn(f"never closed, so not written: {self!r}", ResourceWarning, stacklevel=2)


class AppendWriter(io.BufferedWriter):
    """A buffered writer whose bytes a forked child does not write a second time.

    Args:
        raw: the file, open for appending.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._process = os.getpid()

    def write(self, data: ReadableBuffer, /) -> int:
        """Append bytes; raises WrongStateError if it was opened before this process was forked."""
        self._require_owner()
        return super().write(data)

    def flush(self) -> None:
        """Write what is buffered; raises WrongStateError as :meth:`write` does."""
        if not self.closed:
            self._require_owner()
        super().flush()

    def close(self) -> None:
        """Write what is buffered, and close the file; a forked child closes its copy only."""
        if os.getpid() == self._process:
            super().close()
        else:
            self.raw.close()

    def _require_owner(self) -> None:
        if os.getpid() != self._process:
            raise _of_another_process("append to", self._process)


def _of_another_process(action: str, process: int) -> WrongStateError:
    return WrongStateError(
        f"cannot {action} the file in this process",
        why="it was opened in the process that this one was forked from",
        todo="Do it there, or open the file after the fork.",
        needed=f"process {process}",
        found=f"process {os.getpid()}",
    )


def writer_in_memory(write: Callable[[bytes], None]) -> AtomicWriter:
    """Return a writer that collects all bytes, and passes them to *write* when it is closed.

    For authors of a :class:`~core_infra.medium.Medium`.

    Args:
        write: called with the whole content.
    """
    buffer = io.BytesIO()
    # BytesIO has all that a BufferedWriter needs of its raw file.
    raw = cast("io.RawIOBase", buffer)
    return AtomicWriter(raw, lambda: write(buffer.getvalue()), lambda: None)
