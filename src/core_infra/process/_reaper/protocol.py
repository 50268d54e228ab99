"""The reaper's protocol: each request is one packet and brings a pipe for its answers.

So no request waits for another, and one whose sender was interrupted while it waited leaves nothing
behind that another could mistake for its own answer. The other side is ``csrc/reaper/main.c``.
"""

from __future__ import annotations

import array
import contextlib
import enum
import struct
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from core_infra._unpatched import os, socket

if TYPE_CHECKING:
    from collections.abc import Collection

_REQUEST = struct.Struct("=IIQQIiIIII")
_REPLY = struct.Struct("=iiq")
_END = struct.Struct("=QQQQQ")
_NO_START, _NO_END = bytes(_REPLY.size), bytes(_END.size)
_MAX_PACKET = 64 * 1024
_NONBLOCKING = os.O_CLOEXEC | os.O_NONBLOCK


class Op(enum.IntEnum):
    """The operations."""

    SPAWN = 1
    SIGNAL = 2
    KILL = 3
    LIST = 4


class Flag(enum.IntEnum):
    """Options of a request."""

    TERMINAL = 1
    """Of SPAWN: standard input becomes the controlling terminal."""
    PROCESS_GROUP = 1
    """Of SIGNAL: send it to the process group."""
    IN_FILE = 2
    """The body is too large for a packet and comes in a file."""
    COALESCE = 4
    """Of SPAWN: the start may be reported a moment late, together with an end that comes soon."""


class End(NamedTuple):
    """How a program ended.

    Attributes:
        exit_code: minus the signal's number if a signal ended it.
        at: when, on ``time.monotonic``.
        user: seconds of CPU in the program and its children that it waited for.
        system: seconds of CPU in the kernel for them.
        peak_memory: bytes; the largest resident size of one of them.
    """

    exit_code: int
    at: float
    user: float
    system: float
    peak_memory: int


class Reply(NamedTuple):
    """The immediate answer.

    Attributes:
        error: an errno, or 0.
        stage: of SPAWN: what failed.
        value: of SPAWN: the pid; of LIST: how many pids follow.
    """

    error: int
    stage: int
    value: int


class RequestSocket:
    """Our end of the socket for requests; threads may share it.

    There is no lock: a packet is sent in one call, and a sender may be interrupted by a signal
    handler that waits for another sender. So the socket stays open until nobody can be sending any
    more, and its number is not reused before.

    Args:
        requests: the socket; it is owned from now on.
    """

    _open: ClassVar[set[socket.socket]] = set()
    """Keeps the sockets out of reference cycles: the garbage collector would finalize them first,
    with a ResourceWarning."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self.fd = requests.fileno()
        self._open.add(requests)

    def __del__(self) -> None:
        self._requests.close()
        self._open.discard(self._requests)

    def send(
        self,
        op: Op,
        tag: int,
        *,
        mask: int = 0,
        flags: int = 0,
        number: int = 0,
        counts: tuple[int, int] = (0, 0),
        body: bytes = b"",
        fds: Collection[int] = (),
    ) -> int:
        """Send a request; does not wait for the reply.

        Args:
            op: the operation.
            tag: a program's tag, or a selection's value.
            mask: the selection's mask.
            flags: of :class:`Flag`.
            number: the signal.
            counts: how many arguments and variables the body has.
            body: the data of the request.
            fds: descriptors for the program.

        Returns:
            The pipe for the reply (see :func:`read_reply`) and for what follows it; the caller
            closes it. That of SPAWN does not block (see :class:`ProgramReport`).

        Raises:
            ConnectionError: the reaper has ended.
        """
        ours, theirs = os.pipe2(_NONBLOCKING if op is Op.SPAWN else os.O_CLOEXEC)
        try:
            in_file = Flag.IN_FILE if len(body) > _MAX_PACKET else 0
            header = _REQUEST.pack(
                len(body), op, tag, mask, flags | in_file, number, *counts, len(fds), 0
            )
            if in_file:
                with os.fdopen(os.memfd_create("request"), "wb", buffering=0) as file:
                    file.write(body)
                    self._send(header, (theirs, file.fileno(), *fds))
            else:
                self._send(header + body, (theirs, *fds))
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    def _send(self, packet: bytes, fds: tuple[int, ...]) -> None:
        attached = array.array("i", fds)
        self._requests.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, attached)])

    def shut_down(self) -> None:
        """Make all further requests raise."""
        with contextlib.suppress(OSError):  # the other end is closed
            self._requests.shutdown(socket.SHUT_RDWR)

    def close_after_fork(self) -> None:
        """Close our copy in a forked child, which has one thread only."""
        self._requests.close()


def read_reply(channel: int) -> Reply:
    """Wait for the immediate answer; raises ConnectionError if the reaper has ended."""
    return Reply(*_REPLY.unpack(receive(channel, _REPLY.size)))


def receive(channel: int, size: int) -> bytes:
    """Read *size* bytes; raises ConnectionError if the reaper has ended."""
    data = b""
    while len(data) < size:
        more = os.read(channel, size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


class ProgramReport:
    """What the reaper reports of one program: its start, or why it failed, then its end.

    What is read is kept here: if the reader is interrupted before it has passed it on, it finds it
    here the next time.
    """

    def __init__(self) -> None:
        self._start = bytearray(_REPLY.size)
        self._end = bytearray(_END.size)

    def read(self, channel: int) -> None:
        """Read what there is, if anything.

        Args:
            channel: from :meth:`RequestSocket.send`; it does not block.

        Raises:
            ConnectionError: the reaper was killed.
        """
        if self._end != _NO_END:
            return
        missing = [self._start, self._end] if self._start == _NO_START else [self._end]
        try:
            if not os.readv(channel, missing):
                raise ConnectionResetError
        except BlockingIOError:
            return

    def start(self) -> Reply | None:
        """The reply to the start; None if it has not arrived."""
        return Reply(*_REPLY.unpack(self._start)) if self._start != _NO_START else None

    def end(self) -> End | None:
        """How it ended; None if that has not arrived."""
        if self._end == _NO_END:
            return None
        status, at, user, system, peak = _END.unpack(self._end)
        code = os.waitstatus_to_exitcode(status)
        return End(code, at / 1e9, user / 1e6, system / 1e6, peak * 1024)
