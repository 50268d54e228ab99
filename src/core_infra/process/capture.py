"""What a process has written: the last bytes, and which stream each came from."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple

from core_infra.process.events import Stream
from core_infra.process.ring import RingBuffer


class Parts(NamedTuple):
    """What a reader gets who wants to know where it came from.

    Attributes:
        data: each part and its stream, in the order of arrival.
        lost: how many bytes before them, from the offset asked for, are gone.
        end: the offset after them: where to go on.
    """

    data: list[tuple[Stream, bytes]]
    lost: int
    end: int


class Output:
    """The ring of a process, and a note of each change between its streams.

    One thread writes; all may read, without a lock, as of the ring.

    Args:
        size: bytes that are kept.
    """

    def __init__(self, size: int) -> None:
        self.ring = RingBuffer(size)
        self._changes: deque[tuple[int, Stream]] = deque()

    def write(self, stream: Stream, data: bytes) -> None:
        """Take what was read from a stream."""
        if not self._changes or self._changes[-1][1] is not stream:
            self._changes.append((self.ring.end, stream))
        self.ring.write(data)
        while len(self._changes) > 1 and self._changes[1][0] <= self.ring.start:
            self._changes.popleft()

    def read(self, stream: Stream | None = None) -> bytes:
        """What is kept, of one stream or of both in the order of arrival."""
        if stream is None:
            return self.ring.read().data
        return b"".join(data for whose, data in self.parts(0).data if whose is stream)

    def parts(self, offset: int) -> Parts:
        """All from *offset* on that is still kept, by streams."""
        while True:
            changes = [*self._changes]
            data, lost, end = self.ring.read(offset)
            if changes == [*self._changes]:  # else they may not be those of what was read
                break
        start = offset + lost
        found = [
            (whose, data[max(first - start, 0) : max(stop - start, 0)])
            for (first, whose), (stop, _) in pairwise([*changes, (end, Stream.STDOUT)])
        ]
        return Parts([(whose, part) for whose, part in found if part], lost, end)
