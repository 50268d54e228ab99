"""One request to the guest agent: its input, its output under flow control, and its end."""

from __future__ import annotations

import copy
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.vm._guest.protocol import (
    MAX_DATA,
    WINDOW,
    Done,
    Frame,
    FrameType,
    ProtocolError,
    encode_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT = 1
STDERR = 2
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}
Chunk = tuple[int, bytes]
_GRANT = struct.Struct("<I")


class Channel:
    """A command, a file being read or a file being written, in the guest.

    Frames arrive on the supervisor's thread; the user's thread waits in :meth:`read`. What that
    returns is granted back to the guest, so at most a window per stream is ever held here.

    Args:
        number: its own among those of the session.
        send: sends a frame, without blocking.
        input_ended: the request has told the guest that there is no input.
    """

    def __init__(
        self, number: int, send: Callable[[Frame], None], *, input_ended: bool = False
    ) -> None:
        self.number = number
        self._send = send
        self._changed = threading.Condition()
        self._listener: Callable[[], None] = lambda: None
        self._chunks: deque[Chunk] = deque()
        self._done: Done | None = None
        self._error: CoreInfraError | None = None
        self._input: deque[memoryview] = deque()
        self._input_closed = self._input_ended = input_ended
        self._credit = WINDOW
        self._owed = {STDOUT: 0, STDERR: 0}
        self._window = {STDOUT: WINDOW, STDERR: WINDOW}
        self._abandoned = False
        self._pause_error: CoreInfraError | None = None
        self._pause_ends = 0.0

    @property
    def ended(self) -> bool:
        """Whether the request is done or its connection gone; output may still wait."""
        return self._done is not None or self._error is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* on the supervisor's thread whenever :meth:`read` may find something."""
        self._listener = listener

    def read(self, deadline: float | None = None) -> list[Chunk]:
        """Returns what has arrived: at least one piece, or nothing once the request is done.

        Raises:
            TimeoutExpiredError: nothing came before *deadline* (on ``time.monotonic``).
            CoreInfraError: the machine has ended, or the connection is lost.
        """
        with self._changed:
            self._wait(lambda: self._chunks or self._done or self._error, deadline)
            chunks = list(self._chunks)
            self._chunks.clear()
            if not chunks and self._error is not None:
                raise copy.copy(self._error)
        self._grant(chunks)
        return chunks

    def result(self, deadline: float | None = None) -> Done:
        """Wait until the request has ended; drops output that was not read."""
        while self.read(deadline):
            pass
        assert self._done is not None  # noqa: S101 - read() returned nothing
        return self._done

    def last_words(self) -> str:
        """What the processes of a command waited for when it was killed; "" before its end."""
        return "" if self._done is None else self._done.message

    def write(self, data: bytes, deadline: float | None = None) -> None:
        """Queue input; waits while a whole window is queued already.

        Once the request is done, input is dropped, as a pipe's content would be; :meth:`result`
        says how it ended.
        """
        with self._changed:
            self._wait(lambda: self._queued() < WINDOW or self.ended, deadline)
            if self._error is not None:
                raise copy.copy(self._error)
            self._input.append(memoryview(data))
            self._flush()

    def close_input(self) -> None:
        """No more input; what is queued is still sent."""
        with self._changed:
            self._input_closed = True
            self._flush()

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group; it ends a file transfer."""
        self._send(Frame(FrameType.SIGNAL, self.number, struct.pack("<I", number)))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the command's terminal."""
        self._send(Frame(FrameType.RESIZE, self.number, encode_size(rows, columns)))

    def abandon(self) -> None:
        """Read no more: output that still arrives is granted and dropped until the end."""
        with self._changed:
            self._abandoned = True
            chunks = list(self._chunks)
            self._chunks.clear()
        self._grant(chunks)

    def receive(self, frame: Frame) -> bool:
        """Take a frame of this channel, on the supervisor's thread; True if it was the last.

        Raises:
            ProtocolError: the frame is not possible; the guest is not trusted.
        """
        with self._changed:
            if frame.type in (FrameType.STDOUT, FrameType.STDERR):
                stream = STDOUT if frame.type == FrameType.STDOUT else STDERR
                self._window[stream] -= len(frame.payload)
                if self._window[stream] < 0:
                    raise ProtocolError("the guest agent sent more than it was granted")
                self._chunks.append((stream, frame.payload))
            elif frame.type == FrameType.STDIN_GRANT:
                if len(frame.payload) != _GRANT.size:
                    raise ProtocolError(f"bad STDIN_GRANT payload {frame.payload[:64]!r}")
                self._credit += _GRANT.unpack(frame.payload)[0]
                self._flush()
            elif frame.type == FrameType.DONE:
                self._done = Done.decode(frame.payload)
            self._changed.notify_all()
        self._listener()
        if self._abandoned:
            self.abandon()
        return self._done is not None

    def fail(self, error: CoreInfraError) -> None:
        """The connection is lost: calls that wait raise *error*."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._listener()

    def pause(self, error: CoreInfraError | None, until: float) -> None:
        """The machine is paused: from *until* on, calls raise *error*; None: it runs again."""
        with self._changed:
            self._pause_error, self._pause_ends = error, until
            self._changed.notify_all()

    def notify(self) -> None:
        """Call the listener again: the machine has been paused for too long."""
        self._listener()

    def _wait(self, ready: Callable[[], object], deadline: float | None) -> None:
        while not ready():
            ends = [] if deadline is None else [deadline]
            if self._pause_error is not None:
                ends.append(self._pause_ends)
            left = min(ends) - time.monotonic() if ends else None
            if left is not None and left <= 0:
                is_late = time.monotonic() >= self._pause_ends or deadline  # 0: it only looks
                if self._pause_error is not None and is_late:
                    raise copy.copy(self._pause_error)  # which says more than that the time is up
                raise TimeoutExpiredError("the guest did not answer in time", timeout=None)
            self._changed.wait(left)

    def _queued(self) -> int:
        return sum(map(len, self._input))

    def _flush(self) -> None:
        if self._done is not None:
            self._input.clear()
        while self._input and self._credit:
            head = self._input.popleft()
            size = min(len(head), MAX_DATA, self._credit)
            self._credit -= size
            if size:
                self._send(Frame(FrameType.DATA, self.number, bytes(head[:size])))
            if size < len(head):
                self._input.appendleft(head[size:])
        ends = self._input_closed and not self._input_ended
        if ends and not self._input and self._done is None:
            self._input_ended = True
            self._send(Frame(FrameType.EOF, self.number))

    def _grant(self, chunks: list[Chunk]) -> None:
        # A grant wakes the guest, which costs more than the bytes it is for: so few and large.
        with self._changed:  # the supervisor's thread counts in the same windows
            for stream, data in chunks:
                self._owed[stream] += len(data)
            for stream, owed in self._owed.items():
                if owed >= WINDOW // 4 and self._done is None:
                    self._owed[stream] = 0
                    self._window[stream] += owed
                    payload = struct.pack("<II", stream, owed)
                    self._send(Frame(FrameType.GRANT, self.number, payload))
