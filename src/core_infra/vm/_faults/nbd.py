"""Read and write a disk of a machine that runs, by QEMU's own server of network block devices.

The protocol is NBD's in its oldest form that QEMU has (``doc/proto.md`` of NetworkBlockDevice/nbd).
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from core_infra._unpatched import socket, tempfile
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._hypervisors.qmp import Qmp

_TIMEOUT = 30.0
_NAME = b"disk"
_GREETING = struct.Struct(">8s8sH")
_HEAD = struct.Struct(">I8sII")
_EXPORT = struct.Struct(">QH")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_FIXED_NO_ZEROES = 3
_EXPORT_NAME = 1
_MAGIC = b"IHAVEOPT"
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT = 0, 1, 2


class DiskContent:
    """The content of a disk, as its guest has written it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._receive(_GREETING.size)
        head = _HEAD.pack(_FIXED_NO_ZEROES, _MAGIC, _EXPORT_NAME, len(_NAME))
        connection.sendall(head + _NAME)
        self._receive(_EXPORT.size)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk."""
        self._ask(_READ, offset, length)
        return self._receive(length)

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of the disk."""
        self._ask(_WRITE, offset, len(data), data)

    def close(self) -> None:
        """End the connection."""
        self._connection.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))

    def _ask(self, what: int, offset: int, length: int, data: bytes = b"") -> None:
        request = _REQUEST.pack(_REQUEST_MAGIC, 0, what, 0, offset, length)
        self._connection.sendall(request + data)
        magic, error, _ = _REPLY.unpack(self._receive(_REPLY.size))
        if magic != _REPLY_MAGIC or error:
            raise UnavailableError("a disk cannot be read or written", why=f"NBD error {error}")

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._connection.recv(length - len(data))
            if not part:
                raise UnavailableError("a disk cannot be read or written", why="QEMU hung up")
            data += part
        return data


@contextlib.contextmanager
def disk_content(qmp: Qmp, node: str) -> Iterator[DiskContent]:
    """The content of a block device of QEMU, while its guest runs.

    Args:
        qmp: the monitor.
        node: the block device's name.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        listening.bind(f"{directory}/nbd")
        listening.listen(1)
        qmp.execute("getfd", fds=[listening.fileno()], fdname="nbd")
        qmp.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "nbd"}})
        try:
            qmp.execute(
                "block-export-add",
                type="nbd",
                id="nbd",
                node_name=node,
                name=_NAME.decode(),
                writable=True,
            )
            connection.settimeout(_TIMEOUT)
            connection.connect(f"{directory}/nbd")
            content = DiskContent(connection)
            yield content
            content.close()
        finally:
            qmp.execute("nbd-server-stop")
