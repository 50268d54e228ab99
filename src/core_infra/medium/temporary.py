"""Unfinished files: beside their target, hidden, and never left for long.

A writer holds a lock (flock) on its unfinished file. The kernel drops the lock with the process,
so an unlocked one is a dead writer's, whatever has become of process ids since. Only who holds
the lock may rename or unlink the file. Names are numbered per target: a write finds what earlier
writers of the same file left without listing the directory.
"""

# The order of the system calls is the point.
# ruff: noqa: PTH108, PTH118, PTH208

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import zlib

from core_infra.medium.paths import RESERVED

_SWEPT = 8
"""How many numbers a write looks at for leftovers, and so how many writers may die at once."""


def make_unfinished(target: str) -> tuple[int, str]:
    """Create and lock an unfinished file for *target*, and remove what dead writers left of it.

    Returns:
        Its descriptor (closing it gives up the lock) and its path. Its mode is that of any new
        file: 0o666 without the umask.

    Raises:
        OSError: the directory is missing, full, or may not be written.
    """
    directory, name = os.path.split(target)
    # Two names with the same checksum only share their numbers; the lock keeps them apart.
    stem = os.path.join(directory, f"{RESERVED}{zlib.crc32(os.fsencode(name)):08x}-")
    for number in range(_SWEPT):
        _remove_if_dead(f"{stem}{number}")
    for number in itertools.count():
        path = f"{stem}{number}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        # Between the two calls, somebody may have taken the file for a dead writer's.
        if _lock(fd) and os.fstat(fd).st_nlink:
            return fd, path
        os.close(fd)
    raise AssertionError  # count() does not end


def discard(fd: int, path: str) -> None:
    """Unlink the unfinished file *path*, if it is still the one whose lock *fd* holds.

    Renamed to its target or deleted with its directory, its path may be another writer's by now.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            os.unlink(path)


def sweep(directory: str) -> None:
    """Remove the unfinished files of all dead writers in a directory."""
    for name in os.listdir(directory):
        if name.startswith(RESERVED):
            _remove_if_dead(os.path.join(directory, name))


def _remove_if_dead(path: str) -> None:
    # Gone meanwhile, or of another user whose own next write will remove it: nothing to do here.
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _lock(fd):
                discard(fd, path)
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
