"""Connected sockets that the supervisor serves, and addresses of UNIX sockets."""

from __future__ import annotations

import contextlib
import io
import threading
from typing import TYPE_CHECKING

from core_infra._eventloop.supervisor import READ, WRITE, supervisor
from core_infra._unpatched import os, socket, time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from _typeshed import WriteableBuffer

_CHUNK = 256 * 1024
_MAX_ADDRESS = 107
"""Bytes of a UNIX socket's path that the kernel accepts."""


class SocketLink:
    """One end of a stream socket: reading and writing never block a caller.

    Args:
        sock: connected; the link owns it from now on.
        on_data: called on the supervisor's thread with each piece that arrives.
        on_close: called there once, when the peer has closed or the link was closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_data: Callable[[bytes], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the socket module's signature
        self._sock = sock
        self._on_data = on_data
        self._on_close = on_close
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._open = True
        supervisor().call(lambda: self._watch(READ))

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send or queue *data*, in order; never blocks. Returns False if the link is closed.

        The queue is unbounded: the protocols on top limit how much can be under way.
        Descriptors *fds* are sent with the data at once (the socket must be a UNIX one).

        Raises:
            BlockingIOError: there are descriptors to send, and the peer does not read now.
        """
        with self._lock:
            if not self._open:
                return False
            if fds:
                if self._pending:
                    raise BlockingIOError("descriptors cannot be queued")
                return socket.send_fds(self._sock, [data], list(fds)) == len(data)
            sent = 0
            if not self._pending:
                try:
                    sent = self._sock.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    return False  # the reading side gets the same error and closes
            if sent < len(data):
                if not self._pending:
                    supervisor().post(self._want_write)
                self._pending += data[sent:]
        return True

    def drain(self) -> None:
        """Receive all that the peer sent before it closed; on the supervisor's thread."""
        while self._open and self._receive():
            pass

    def close(self) -> None:
        """Close the socket; on_close is called if it had not been."""
        supervisor().call(self._close)

    def _watch(self, events: int) -> None:
        supervisor().watch(self._sock.fileno(), events, self._ready)

    def _want_write(self) -> None:
        if self._open:
            self._watch(READ | WRITE)

    def _ready(self, events: int) -> None:
        if events & WRITE and not self._flush():
            self._close()
            return
        if events & READ:
            self._receive()

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self._close()
        return True

    def _flush(self) -> bool:
        with self._lock:
            try:
                sent = self._sock.send(self._pending)
            except BlockingIOError:
                return True
            except OSError:
                return False
            del self._pending[:sent]
            if not self._pending:
                self._watch(READ)
        return True

    def _close(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._pending.clear()
        supervisor().unwatch(self._sock.fileno())
        self._sock.close()
        self._on_close()


class Received(io.RawIOBase):
    """What arrives on a connection before a deadline, however often a little of it arrives.

    Reading raises TimeoutError at the deadline.

    Args:
        connection: a connected socket.
        deadline: the time, by ``time.monotonic()``.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """An address of a UNIX socket that is short enough for the kernel, however long *path* is."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS:
        yield os.fspath(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
