"""What a process has written: the last bytes, and which stream each came from."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

from core_infra.process.ring import RingBuffer

if TYPE_CHECKING:
    from core_infra.process.events import Stream


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
        while True:
            changes = [*self._changes]
            data, start, end = self.ring.read()
            if changes == [*self._changes]:  # else they may not be those of what was read
                break
        return b"".join(
            data[max(first - start, 0) : max(stop - start, 0)]
            for (first, whose), (stop, _) in pairwise([*changes, (end, None)])
            if whose is stream
        )
