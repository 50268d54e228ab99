"""Unfinished files: hidden, in the directory of their target, and cleaned up after a crash.

A writer holds a lock (flock) on its unfinished file. The kernel releases the lock when the process
ends, so an unlocked file belongs to a dead writer, even if its process id is in use again. Only the
holder of the lock may rename or unlink the file. Names are numbered per target, so a write finds
the remains of earlier writers of the same file without listing the directory.
"""

# The order of the system calls is the point.

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import zlib

from core_infra.medium._paths import RESERVED

_SWEPT = 8
"""The numbers that a write checks for remains: as many writers may die at the same time."""


def make_unfinished(directory: int, target: str, *, private: bool) -> tuple[int, str]:
    """Create and lock an unfinished file for *target*, and remove those of dead writers.

    Args:
        directory: descriptor of the directory.
        target: the finished file's name in it.
        private: whether only its owner may open it until it is finished. Otherwise its mode is
            that of any new file: 0o666 without the umask.

    Returns:
        Its descriptor (closing it releases the lock) and its name.

    Raises:
        OSError: the directory has been deleted, is full, or may not be written.
    """
    # Two targets with the same checksum only share the numbers; the lock keeps them apart.
    stem = f"{RESERVED}{zlib.crc32(os.fsencode(target)):08x}-"
    for number in range(_SWEPT):
        _remove_if_dead(directory, f"{stem}{number}")
    mode = 0o600 if private else 0o666
    for number in itertools.count():
        name = f"{stem}{number}"
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
        except FileExistsError:
            continue
        # Between open and lock, another writer may have removed the unlocked file.
        if _lock(fd) and os.fstat(fd).st_nlink:
            return fd, name
        os.close(fd)
    raise AssertionError  # count() does not end


def discard(fd: int, directory: int, name: str) -> None:
    """Unlink the unfinished file *name*, if it is still the one whose lock *fd* holds.

    If it was renamed to its target or deleted, another writer may use the name now.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(name, dir_fd=directory)):
            os.unlink(name, dir_fd=directory)


def sweep(directory: int) -> None:
    """Remove the unfinished files of all dead writers in a directory, given by descriptor."""
    for name in os.listdir(directory):
        if name.startswith(RESERVED):
            _remove_if_dead(directory, name)


def _remove_if_dead(directory: int, name: str) -> None:
    # Errors are fine: it has just been removed, or belongs to another user, whose next write
    # removes it.
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            if _lock(fd):
                discard(fd, directory, name)
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
