"""The last bytes of a stream, at absolute offsets."""

from __future__ import annotations

import contextlib
import threading
from typing import NamedTuple

from core_infra.errors import InvalidError
from core_infra.process.latch import Latch
from core_infra.process.real import time

DEFAULT_SIZE = 1 << 20
"""Bytes that a ring keeps, and a process of its output, unless another size is asked for."""


class Piece(NamedTuple):
    """What a reader gets.

    Attributes:
        data: the bytes, exactly as they were written.
        lost: how many bytes before them, from the offset asked for, are gone.
        end: the offset after them: where to go on.
    """

    data: bytes
    lost: int
    end: int


class _Shown(NamedTuple):
    """What readers go by; replaced at one stroke."""

    start: int
    end: int
    base: int  # the offset of the byte at the memory's beginning, in its first turn
    memory: bytearray


class RingBuffer:
    """Keeps the last *size* bytes of all that is written; threads may share it.

    Every byte has an absolute offset: the number of bytes written before it. So a reader that
    comes late, or back, goes on where it was and is told how much it has missed. Memory is taken
    as it fills, not before.

    Readers take no lock: who reads may be interrupted by a signal's handler that waits for who
    writes. They copy, then look whether that was overwritten meanwhile (a sequence lock).

    Args:
        size: bytes, at least 1.

    Raises:
        InvalidError: the size is below 1.
    """

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if size < 1:
            raise InvalidError(f"a ring buffer cannot have {size} bytes", todo="Give at least 1.")
        self._size = size
        self._reach = 0  # what is before it by the size, is overwritten or just about to be
        self._shown = _Shown(0, 0, 0, bytearray())
        self._closed = False
        self._lock = threading.RLock()  # of those who write
        self._waiting: list[Latch] = []

    @property
    def cap(self) -> int:
        """How many bytes are kept at most."""
        return self._size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        return self._shown.start

    @property
    def end(self) -> int:
        """The offset that the next byte will have: how many were written so far."""
        return self._shown.end

    @property
    def closed(self) -> bool:
        """Whether nothing more will be written."""
        return self._closed

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write bytes over the oldest ones; returns how many: all."""
        with self._lock:
            start, end, base, memory = self._shown
            count = len(data)
            self._reach = end + count
            if len(memory) + count <= self._size and end - base == len(memory):
                memory += data
            else:
                self._overwrite(memory, end - base, data)
            start = max(start, self._reach - self._size)
            self._shown = _Shown(start, self._reach, base, memory)
        self._wake()
        return count

    def read(self, offset: int = 0) -> Piece:
        """All from *offset* on that is still kept.

        Raises:
            InvalidError: the offset is negative, or beyond the end.
        """
        while True:
            start, end, base, memory = self._shown
            if not 0 <= offset <= end:
                raise InvalidError(
                    f"cannot read at offset {offset}", why=f"{end} bytes were written"
                )
            first = max(offset, start)
            data = self._copy(memory, first - base, end - base)
            if self._reach - self._size <= first:
                return Piece(data, first - offset, end)

    def wait(self, offset: int, timeout: float | None = None) -> bool:
        """Wait until there are bytes from *offset* on; whether there are.

        Args:
            offset: usually the end of the piece that was read last.
            timeout: seconds; None waits until there are, or the ring is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.end <= offset and not self._closed:
            more = Latch()
            self._waiting.append(more)
            if self.end > offset or self._closed:
                break  # it may have been written before we were known
            if not more.wait(None if deadline is None else deadline - time.monotonic()):
                with contextlib.suppress(ValueError):
                    self._waiting.remove(more)
                break
        return self.end > offset

    def close(self) -> None:
        """Nothing more will be written: whoever waits, goes on. What is kept can still be read."""
        self._closed = True
        self._wake()

    def reset(self) -> None:
        """Forget the bytes; the offsets go on, so that readers are told of the loss."""
        with self._lock:
            end = self.end
            self._shown = _Shown(end, end, end, bytearray())

    def __len__(self) -> int:
        shown = self._shown
        return shown.end - shown.start

    def __bytes__(self) -> bytes:
        return self.read().data

    def __str__(self) -> str:
        return bytes(self).decode(errors="replace")

    def __repr__(self) -> str:
        return f"<RingBuffer {len(self)} of {self._size} bytes, to offset {self.end}>"

    def _wake(self) -> None:
        while self._waiting:
            with contextlib.suppress(IndexError):  # another thread takes them, too
                self._waiting.pop().set()

    def _overwrite(
        self, memory: bytearray, place: int, data: bytes | bytearray | memoryview
    ) -> None:
        if len(memory) < self._size:
            memory += bytes(self._size - len(memory))
        view = memoryview(memory)
        last = memoryview(data)[-self._size :]
        at = (place + len(data) - len(last)) % self._size
        before_turn = self._size - at
        view[at : at + min(len(last), before_turn)] = last[:before_turn]
        view[: max(0, len(last) - before_turn)] = last[before_turn:]

    def _copy(self, memory: bytearray, first: int, stop: int) -> bytes:
        """What is between two places, counted from the memory's beginning on, over all turns."""
        if first == stop:
            return b""
        if len(memory) < self._size:
            return bytes(memory[first:stop])  # no view: memory that is viewed cannot grow
        at, stop = first % self._size, stop % self._size
        view = memoryview(memory)
        return bytes(view[at:stop]) if at < stop else b"".join((view[at:], view[:stop]))
