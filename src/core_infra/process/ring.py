"""The last bytes of a stream, at absolute offsets."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from core_infra.errors import InvalidError
from core_infra.process.latch import Latch

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


class RingBuffer:
    """Keeps the last *size* bytes of all that is written; threads may share it.

    Every byte has an absolute offset: the number of bytes written before it. So a reader that
    comes late, or back, goes on where it was and is told how much it has missed. Memory is taken
    as it fills, not before.

    Args:
        size: bytes, at least 1.

    Raises:
        InvalidError: the size is below 1.
    """

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if size < 1:
            raise InvalidError(f"a ring buffer cannot have {size} bytes", todo="Give at least 1.")
        self._size = size
        self._end = 0
        self._kept = 0
        self._base = 0  # the offset of the byte at the memory's beginning, in its first round
        self._data = bytearray()
        self._view: memoryview | None = None  # once the memory has its full size
        self._closed = False
        self._lock = threading.RLock()
        self._more: Latch | None = None  # once somebody waits

    @property
    def cap(self) -> int:
        """How many bytes are kept at most."""
        return self._size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        with self._lock:
            return self._end - self._kept

    @property
    def end(self) -> int:
        """The offset that the next byte will have: how many were written so far."""
        return self._end

    @property
    def closed(self) -> bool:
        """Whether nothing more will be written."""
        return self._closed

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write bytes over the oldest ones; returns how many: all."""
        with self._lock:
            count = len(data)
            if self._view is None and len(self._data) + count <= self._size:
                self._data += data
            else:
                self._overwrite(data)
            self._end += count
            self._kept = min(self._kept + count, self._size)
            self._wake()
        return count

    def read(self, offset: int = 0) -> Piece:
        """All from *offset* on that is still kept.

        Raises:
            InvalidError: the offset is negative, or beyond the end.
        """
        with self._lock:
            if not 0 <= offset <= self._end:
                raise InvalidError(
                    f"cannot read at offset {offset}", why=f"{self._end} bytes were written"
                )
            first = max(offset, self._end - self._kept)
            return Piece(self._slice(first), first - offset, self._end)

    def wait(self, offset: int, timeout: float | None = None) -> bool:
        """Wait until there are bytes from *offset* on; whether there are.

        Args:
            offset: usually the end of the piece that was read last.
            timeout: seconds; None waits until there are, or the ring is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._end > offset or self._closed:
                    return self._end > offset
                more = self._more = self._more or Latch()
            if not more.wait(None if deadline is None else deadline - time.monotonic()):
                return self._end > offset

    def close(self) -> None:
        """Nothing more will be written: whoever waits, goes on. What is kept can still be read."""
        with self._lock:
            self._closed = True
            self._wake()

    def reset(self) -> None:
        """Forget the bytes; the offsets go on, so that readers are told of the loss."""
        with self._lock:
            self._kept = 0
            self._base = self._end
            self._view = None
            self._data = bytearray()

    def __len__(self) -> int:
        return self._kept

    def __bytes__(self) -> bytes:
        return self.read().data

    def __str__(self) -> str:
        return bytes(self).decode(errors="replace")

    def __repr__(self) -> str:
        return f"<RingBuffer {self._kept} of {self._size} bytes, to offset {self._end}>"

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.set()

    def _overwrite(self, data: bytes | bytearray | memoryview) -> None:
        if self._view is None:
            self._data += bytes(self._size - len(self._data))
            self._view = memoryview(self._data)
        last = memoryview(data)[-self._size :]
        at = (self._end + len(data) - len(last) - self._base) % self._size
        before_turn = self._size - at
        self._view[at : at + min(len(last), before_turn)] = last[:before_turn]
        self._view[: max(0, len(last) - before_turn)] = last[before_turn:]

    def _slice(self, first: int) -> bytes:
        if first == self._end:
            return b""
        if self._view is None:
            return bytes(self._data[first - self._base :])
        at, stop = ((offset - self._base) % self._size for offset in (first, self._end))
        if at < stop:
            return bytes(self._view[at:stop])
        return b"".join((self._view[at:], self._view[:stop]))
