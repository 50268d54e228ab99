"""The output of a process: its last bytes, which stream each came from, and its lines."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from itertools import pairwise
from typing import NamedTuple

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import time
from core_infra.errors import InvalidError
from core_infra.process._events import Stream
from core_infra.process._values import is_whole

DEFAULT_SIZE = 1 << 20
"""Bytes that a ring buffer keeps, and a process of its output, unless another size is given."""
MAX_LINE = 4 << 20
"""Bytes of a line that are joined; a longer one is split into parts."""

_CONTINUES = 0b1100_0000  # the top bits of a UTF-8 byte that does not begin a character: 10
_WITHIN = 0b1000_0000


class Piece(NamedTuple):
    """A part of the output.

    Attributes:
        data: the bytes, exactly as they were written.
        lost: how many bytes before them, from the offset asked for, are gone.
        end: the offset after them, at which to read on.
    """

    data: bytes
    lost: int
    end: int


class StreamParts(NamedTuple):
    """A part of the output, split by streams.

    Attributes:
        data: each part and its stream, in the order of arrival.
        lost: how many bytes before them, from the offset asked for, are gone.
        end: the offset after them, at which to read on.
    """

    data: list[tuple[Stream, bytes]]
    lost: int
    end: int


class _View(NamedTuple):
    """What readers use; replaced in one assignment."""

    start: int
    end: int
    base: int  # the offset of the first byte of the memory, in its first turn
    memory: bytearray


class RingBuffer:
    """Keeps the last *size* bytes of all that is written; threads may share it.

    Every byte has an absolute offset: the number of bytes written before it. So a reader that
    comes late, or back, goes on where it was, and gets the number of bytes that it missed. Memory
    is allocated as it fills, not before.

    Readers take no lock: a reader may be interrupted by a signal handler that waits for a writer.
    They copy, then check whether that was overwritten meanwhile (a sequence lock).

    Args:
        size: bytes, at least 1.

    Raises:
        InvalidError: the size is below 1.
    """

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if not is_whole(size) or size < 1:
            raise InvalidError(f"a ring buffer cannot have {size!r} bytes", todo="Give at least 1.")
        self._size = size
        self._reach = 0  # bytes up to this minus the size are overwritten, or just about to be
        self._view = _View(0, 0, 0, bytearray())
        self._closed = False
        self._lock = threading.RLock()  # of writers
        self._waiting: list[Latch] = []

    @property
    def cap(self) -> int:
        """How many bytes are kept at most."""
        return self._size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        return self._view.start

    @property
    def end(self) -> int:
        """The offset that the next byte will have: how many were written so far."""
        return self._view.end

    @property
    def closed(self) -> bool:
        """Whether nothing more will be written."""
        return self._closed

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write bytes over the oldest ones; returns how many: all."""
        with self._lock:
            start, end, base, memory = self._view
            count = len(data)
            self._reach = end + count
            if len(memory) + count <= self._size and end - base == len(memory):
                memory += data
            else:
                self._overwrite(memory, end - base, data)
            start = max(start, self._reach - self._size)
            self._view = _View(start, self._reach, base, memory)
        self._wake()
        return count

    def read(self, offset: int = 0) -> Piece:
        """All from *offset* on that is still kept.

        Raises:
            InvalidError: the offset is negative, or beyond the end.
        """
        while True:
            start, end, base, memory = self._view
            if not 0 <= offset <= end:
                raise InvalidError(
                    f"cannot read at offset {offset}", why=f"{end} bytes were written"
                )
            first = max(offset, start)
            data = self._copy(memory, first - base, end - base)
            if self._reach - self._size <= first:
                return Piece(data, first - offset, end)

    def wait(self, offset: int, timeout: float | None = None) -> bool:
        """Wait until there are bytes from *offset* on; returns whether there are.

        Args:
            offset: usually the end of the piece that was read last.
            timeout: seconds; None waits until there are, or the buffer is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.end <= offset and not self._closed:
            more = Latch()
            self._waiting.append(more)
            if self.end > offset or self._closed:
                break  # it may have been written before the latch was registered
            if not more.wait(None if deadline is None else deadline - time.monotonic()):
                with contextlib.suppress(ValueError):
                    self._waiting.remove(more)
                break
        return self.end > offset

    def close(self) -> None:
        """End all waits: nothing more will be written. The kept bytes can still be read."""
        self._closed = True
        self._wake()

    def reset(self) -> None:
        """Drop the bytes; offsets continue, so that readers see the loss."""
        with self._lock:
            end = self.end
            self._view = _View(end, end, end, bytearray())

    def __len__(self) -> int:
        view = self._view
        return view.end - view.start

    def __bytes__(self) -> bytes:
        return self.read().data

    def __str__(self) -> str:
        return bytes(self).decode(errors="replace")

    def __repr__(self) -> str:
        return f"<RingBuffer {len(self)} of {self._size} bytes, to offset {self.end}>"

    def _wake(self) -> None:
        while self._waiting:
            with contextlib.suppress(IndexError):  # another thread pops them, too
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
        """The bytes between two places, counted from the start of the memory over all turns."""
        if first == stop:
            return b""
        if len(memory) < self._size:
            return bytes(memory[first:stop])  # not a view: memory with views cannot grow
        at, stop = first % self._size, stop % self._size
        view = memoryview(memory)
        return bytes(view[at:stop]) if at < stop else b"".join((view[at:], view[:stop]))


class Output:
    """The ring buffer of a process, and a note of each change between its streams.

    One thread writes; all may read without a lock, as of the ring buffer.

    Args:
        size: bytes that are kept.
    """

    def __init__(self, size: int) -> None:
        self.ring = RingBuffer(size)
        self._changes: deque[tuple[int, Stream]] = deque()

    def write(self, stream: Stream, data: bytes) -> None:
        """Add what was read from a stream."""
        if not self._changes or self._changes[-1][1] is not stream:
            self._changes.append((self.ring.end, stream))
        self.ring.write(data)
        while len(self._changes) > 1 and self._changes[1][0] <= self.ring.start:
            self._changes.popleft()

    def read(self, stream: Stream | None = None) -> bytes:
        """The kept bytes, of one stream or of both in the order of arrival."""
        if stream is None:
            return self.ring.read().data
        return b"".join(data for source, data in self.parts(0).data if source is stream)

    def parts(self, offset: int) -> StreamParts:
        """All from *offset* on that is still kept, by streams."""
        while True:
            changes = [*self._changes]
            data, lost, end = self.ring.read(offset)
            if changes == [*self._changes]:  # else they may not belong to what was read
                break
        start = offset + lost
        found = [
            (stream, data[max(first - start, 0) : max(stop - start, 0)])
            for (first, stream), (stop, _) in pairwise([*changes, (end, Stream.STDOUT)])
        ]
        return StreamParts([(stream, part) for stream, part in found if part], lost, end)


class LinePart(NamedTuple):
    """A line, or a part of a long one that continues in the next."""

    text: str
    partial: bool


class LineSplitter:
    r"""Splits one stream into lines, without their ends (``\n`` or ``\r\n``).

    Bytes that are not UTF-8 become U+FFFD. At most *max_line* bytes wait for the end of their line.

    Args:
        max_line: bytes after which the beginning of a line is returned as a part.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max = max_line
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[str]:
        """The whole lines that end in *data*, which has passed :meth:`overflow`."""
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return []
        head = data[:end]
        if self._held:
            head = b"".join((*self._held, head))
            self._held.clear()
            self._size = 0
        if end + 1 < len(data):
            self._hold(data[end + 1 :])
        text = head.decode(errors="replace")
        lines = text.split("\n")
        if "\r" in text:
            return [line.removesuffix("\r") for line in lines]
        return lines

    def overflow(self, data: bytes) -> tuple[list[LinePart], bytes]:
        """Parts of the line that becomes too long with *data*; and what is left to feed.

        Args:
            data: no longer than *max_line*, so that no other line in it can be too long.
        """
        end = data.find(b"\n")
        length = len(data) if end < 0 else end
        if self._size + length <= self._max:
            return [], data
        line = b"".join((*self._held, data[:length]))
        self._held.clear()
        self._size = 0
        parts = []
        while len(line) > self._max:
            at = self._max
            while at > self._max - 3 and line[at] & _CONTINUES == _WITHIN:
                at -= 1  # not within a character
            parts.append(LinePart(line[:at].decode(errors="replace"), partial=True))
            line = line[at:]
        return parts, line + data[length:]

    def rest(self) -> str | None:
        """What came after the last line's end, at the end of the stream; None if nothing did."""
        held, self._held, self._size = b"".join(self._held), [], 0
        return held.decode(errors="replace").removesuffix("\r") if held else None

    def peek(self) -> str:
        """The beginning of a line that has not ended."""
        return b"".join(self._held).decode(errors="replace")

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
