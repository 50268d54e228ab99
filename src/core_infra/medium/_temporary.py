"""Unfinished files: beside their target, hidden, and never left for long.

A writer holds a lock (flock) on its unfinished file. The kernel drops the lock with the process,
so an unlocked one is a dead writer's, whatever has become of process ids since. Only who holds
the lock may rename or unlink the file. Names are numbered per target: a write finds what earlier
writers of the same file left without listing the directory.
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
"""How many numbers a write looks at for leftovers, and so how many writers may die at once."""


def make_unfinished(directory: int, target: str, *, private: bool) -> tuple[int, str]:
    """Create and lock an unfinished file for *target*, and remove what dead writers left of it.

    Args:
        directory: descriptor of the directory.
        target: the finished file's name in it.
        private: whether only its owner may open it until it is finished. Otherwise its mode is
            that of any new file: 0o666 without the umask.

    Returns:
        Its descriptor (closing it gives up the lock) and its name.

    Raises:
        OSError: the directory is gone, full, or may not be written.
    """
    # Two names with the same checksum only share their numbers; the lock keeps them apart.
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
        # Between the two calls, somebody may have taken the file for a dead writer's.
        if _lock(fd) and os.fstat(fd).st_nlink:
            return fd, name
        os.close(fd)
    raise AssertionError  # count() does not end


def discard(fd: int, directory: int, name: str) -> None:
    """Unlink the unfinished file *name*, if it is still the one whose lock *fd* holds.

    Renamed to its target or deleted with its directory, its name may be another writer's by now.
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
    # Gone meanwhile, or of another user whose own next write will remove it: nothing to do here.
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
