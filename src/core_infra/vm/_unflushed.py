"""What a machine has written to its disks and not flushed: lost when its power is cut.

A disk that has a log ``DISK.unflushed`` beside its file has a volatile write cache. The library in
QEMU (``csrc/forkserver/disks.c``) saves what is overwritten to it, and empties it when the guest
flushes the disk.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from core_infra._unpatched import os
from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX = ".unflushed"
_MAGIC = b"unflush\0"
_HEADER = struct.Struct("=8sQ")
_RECORD = struct.Struct("=QQ")


def begin(disk: Path) -> None:
    """Give a disk an empty log: all that is in its file counts as flushed."""
    _log(disk).write_bytes(b"")


def discard(disk: Path) -> int:
    """Return a disk to what was flushed last, while no process writes to it.

    Returns:
        How many of its bytes were overwritten and not flushed.

    Raises:
        InvalidError: the log is damaged.
    """
    restored = 0
    with _log(disk).open("rb") as log, disk.open("r+b", buffering=0) as file:
        head = log.read(_HEADER.size)
        if len(head) < _HEADER.size:  # empty, or QEMU was killed before it wrote anything
            return 0
        magic, size = _HEADER.unpack(head)
        if magic != _MAGIC:
            raise InvalidError(f"the log {_log(disk)} is damaged")
        while len(record := log.read(_RECORD.size)) == _RECORD.size:
            offset, length = _RECORD.unpack(record)
            old = log.read(length)
            if len(old) < length:  # QEMU was killed before it overwrote this
                break
            os.pwrite(file.fileno(), old, offset)
            restored += length
        file.truncate(size)
    begin(disk)
    return restored


def _log(disk: Path) -> Path:
    return disk.with_name(disk.name + _SUFFIX)
