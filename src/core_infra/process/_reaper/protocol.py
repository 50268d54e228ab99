"""How we and the keeper speak: each request is one packet, with a pipe for its answers.

So who asks waits for nobody else, and who is interrupted while he waits leaves nothing behind that
another could take for his own. The other side is ``keeper/main.c``.
"""

from __future__ import annotations

import array
import contextlib
import enum
import struct
from typing import TYPE_CHECKING, NamedTuple

from core_infra._unpatched import os, socket

if TYPE_CHECKING:
    from collections.abc import Collection

_REQUEST = struct.Struct("=IIQQIiIIII")
_REPLY = struct.Struct("=iiq")
_END = struct.Struct("=QQQQQ")
_MAX_PACKET = 64 * 1024
_FOR_A_LOOP = os.O_CLOEXEC | os.O_NONBLOCK


class Op(enum.IntEnum):
    """What is asked for."""

    SPAWN = 1
    SIGNAL = 2
    KILL = 3
    LIST = 4


class Flag(enum.IntEnum):
    """How."""

    TERMINAL = 1
    GROUP = 1
    IN_FILE = 2
    """The body, more than a packet takes, is in a file."""
    UNHURRIED = 4
    """The start may be told a moment late: with the end, if that is soon."""


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
    """What is answered at once.

    Attributes:
        error: an errno, or 0.
        stage: of SPAWN: what failed.
        value: of SPAWN: the pid; of LIST: how many pids follow.
    """

    error: int
    stage: int
    value: int


class Wire:
    """Our end of the socket that takes requests; threads may share it.

    There is no lock: a packet goes out at one stroke, and whoever sends may be interrupted by a
    signal's handler that waits for another who sends. So the socket stays open until nobody can be
    sending any more: its number is nobody else's.

    Args:
        requests: the socket; the wire owns it.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self.fd = requests.fileno()

    def __del__(self) -> None:
        self._requests.close()

    def ask(
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
        """Ask; does not wait for the reply.

        Args:
            op: what for.
            tag: a program's tag, or a selection's value.
            mask: the selection's mask.
            flags: how.
            number: the signal.
            counts: how many arguments and variables the body has.
            body: what belongs to the request.
            fds: descriptors for the program.

        Returns:
            The pipe for the reply (see :func:`read_reply`) and for what more there is to say, which
            the caller closes. That of SPAWN does not block (see :class:`ProgramNews`).

        Raises:
            ConnectionError: there is no keeper any more.
        """
        ours, theirs = os.pipe2(_FOR_A_LOOP if op is Op.SPAWN else os.O_CLOEXEC)
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
        given = array.array("i", fds)
        self._requests.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])

    def end(self) -> None:
        """Nothing is sent any more: it would raise."""
        with contextlib.suppress(OSError):  # the other end is gone
            self._requests.shutdown(socket.SHUT_RDWR)

    def disown(self) -> None:
        """Close our copy in a forked child, which has one thread only."""
        self._requests.close()


def read_reply(channel: int) -> Reply:
    """Wait for what is answered at once; ConnectionError if there is no keeper any more."""
    return Reply(*_REPLY.unpack(receive(channel, _REPLY.size)))


def receive(channel: int, size: int) -> bytes:
    """So many bytes; ConnectionError if there is no keeper any more."""
    data = b""
    while len(data) < size:
        more = os.read(channel, size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


class ProgramNews:
    """What the keeper says of a program: that it was started or why not, then how it ended.

    It is here as soon as it is read: if we are interrupted before it has reached anybody, it is
    found here the next time.
    """

    def __init__(self) -> None:
        self._start = bytearray(_REPLY.size)
        self._end = bytearray(_END.size)

    def read(self, channel: int) -> None:
        """Read what there is; nothing if that is nothing, or all was read.

        Args:
            channel: from :meth:`Wire.ask`; it does not block.

        Raises:
            ConnectionError: the keeper was killed.
        """
        rooms = [room for room in (self._start, self._end) if not any(room)]
        with contextlib.suppress(BlockingIOError):
            if rooms and not os.readv(channel, rooms):
                raise ConnectionResetError

    def start(self) -> Reply | None:
        """That it was started, or why not; None if that is not known."""
        return Reply(*_REPLY.unpack(self._start)) if any(self._start) else None

    def end(self) -> End | None:
        """How it ended; None if that is not known."""
        if not any(self._end):
            return None
        status, at, user, system, peak = _END.unpack(self._end)
        code = os.waitstatus_to_exitcode(status)
        return End(code, at / 1e9, user / 1e6, system / 1e6, peak * 1024)
