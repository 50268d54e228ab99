"""The guest agent as a plain process of this host, on a socketpair, spoken to in raw frames."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from core_infra.vm._guest.protocol import (
    MAX_DATA,
    WINDOW,
    Done,
    Frame,
    FrameDecoder,
    FrameType,
    HelloAck,
    encode_exec,
    encode_hello,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Nothing here is timed; this only turns a hang into a failure.
HANG = 60.0

NONCE = b"0123456789abcdef"
KEEP_MODE = 0xFFFFFFFF


@dataclass
class Result:
    done: Done
    stdout: bytes
    stderr: bytes
    pid: int | None


class Agent:
    """One agent; as a context manager it has said HELLO, and is gone afterwards."""

    def __init__(self, binary: Path, wrapper: Sequence[str] = (), **options: Any) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [*wrapper, binary, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                **options,
            )
        self.socket.settimeout(HANG)
        self.decoder = FrameDecoder()
        self.queue: deque[Frame] = deque()
        self.others: defaultdict[int, deque[Frame]] = defaultdict(deque)

    def __enter__(self) -> Self:
        self.hello()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            assert self.process.wait(HANG) == 0
        finally:
            self.process.kill()
            self.process.wait()

    def send(self, kind: FrameType, channel: int, payload: bytes = b"") -> None:
        self.socket.sendall(Frame(kind, channel, payload).encode())

    def next(self) -> Frame:
        """The next frame of any channel."""
        while not self.queue:
            data = self.socket.recv(1 << 20)
            assert data, f"the agent is gone, exit status {self.process.wait(HANG)}"
            self.queue.extend(self.decoder.feed(data))
        return self.queue.popleft()

    def next_of(self, channel: int) -> Frame:
        """The next frame of *channel*; those of others are kept for later."""
        while not self.others[channel]:
            frame = self.next()
            self.others[frame.channel].append(frame)
        return self.others[channel].popleft()

    def hello(self, nonce: bytes = NONCE) -> HelloAck:
        self.queue.clear()
        self.others.clear()
        self.decoder.seek_hello(nonce)
        # Without --guest the agent ignores these two: this is the host's own clock.
        self.send(FrameType.HELLO, 0, encode_hello(nonce, clock_ns=1, entropy=b"entropy"))
        frame = self.next()
        assert frame.type == FrameType.HELLO_ACK
        return HelloAck.decode(frame.payload)

    def start(
        self,
        channel: int,
        *argv: str | bytes,
        env: dict[bytes, bytes] | None = None,
        cwd: bytes = b"",
        user: bytes = b"",
    ) -> None:
        words = [word.encode() if isinstance(word, str) else word for word in argv]
        payload = encode_exec(words, env=env or {}, cwd=cwd, user=user)
        self.send(FrameType.EXEC, channel, payload)

    def started(self, channel: int) -> int:
        """The pid that STARTED tells."""
        frame = self.next_of(channel)
        assert frame.type == FrameType.STARTED, frame
        return int(struct.unpack("<I", frame.payload)[0])

    def grant(self, channel: int, stream: int, n: int) -> None:
        self.send(FrameType.GRANT, channel, struct.pack("<II", stream, n))

    def signal(self, channel: int, number: int = signal.SIGKILL) -> None:
        self.send(FrameType.SIGNAL, channel, struct.pack("<I", number))

    def finish(self, channel: int, stdin: bytes = b"", *, grant_at: int = 1) -> Result:
        """Send *stdin* and EOF as the window allows, take and grant all output, until DONE.

        Output is granted whenever *grant_at* bytes of it have come.
        """
        output = {FrameType.STDOUT: bytearray(), FrameType.STDERR: bytearray()}
        ungranted = dict.fromkeys(output, 0)
        pid, window, todo, open_ = None, WINDOW, memoryview(stdin), True
        while True:
            while open_ and (window or not todo) and not self._readable():
                piece = bytes(todo[: min(MAX_DATA, window)])
                todo, window = todo[len(piece) :], window - len(piece)
                if piece:
                    self.send(FrameType.DATA, channel, piece)
                if not todo:
                    self.send(FrameType.EOF, channel)
                    open_ = False
            frame = self.next_of(channel)
            if frame.type in (FrameType.STDOUT, FrameType.STDERR):
                kind = FrameType(frame.type)
                output[kind] += frame.payload
                ungranted[kind] += len(frame.payload)
                assert ungranted[kind] <= WINDOW
                if ungranted[kind] >= grant_at:
                    self.grant(channel, kind - FrameType.STDOUT + 1, ungranted[kind])
                    ungranted[kind] = 0
            elif frame.type == FrameType.STDIN_GRANT:
                window += struct.unpack("<I", frame.payload)[0]
                assert window <= WINDOW
            elif frame.type == FrameType.STARTED:
                pid = struct.unpack("<I", frame.payload)[0]
            else:
                assert frame.type == FrameType.DONE, frame
                stdout, stderr = map(bytes, output.values())
                return Result(Done.decode(frame.payload), stdout, stderr, pid)

    def _readable(self) -> bool:
        return bool(self.queue or select.select([self.socket], [], [], 0)[0])

    def run(self, *argv: str | bytes, stdin: bytes = b"", channel: int = 1, **how: Any) -> Result:
        self.start(channel, *argv, **how)
        return self.finish(channel, stdin)

    def read(self, path: Path | str, channel: int = 1) -> Result:
        data = os.fsencode(path)
        self.send(FrameType.READ, channel, struct.pack("<I", len(data)) + data)
        output = bytearray()
        while (frame := self.next_of(channel)).type == FrameType.STDOUT:
            output += frame.payload
            self.grant(channel, 1, len(frame.payload))
        assert frame.type == FrameType.DONE, frame
        return Result(Done.decode(frame.payload), bytes(output), b"", None)

    def open_write(self, path: Path | str, mode: int = KEEP_MODE, channel: int = 1) -> None:
        data = os.fsencode(path)
        self.send(FrameType.WRITE, channel, struct.pack("<II", mode, len(data)) + data)

    def write(self, path: Path | str, data: bytes, mode: int = KEEP_MODE) -> Done:
        self.open_write(path, mode)
        return self.finish(1, data).done


def wait_for_end(pidfd: int) -> None:
    """Wait until the process of *pidfd* has ended."""
    assert select.select([pidfd], [], [], HANG)[0], "the process lives on"
    os.close(pidfd)
