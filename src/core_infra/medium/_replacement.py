"""One file's new version, on its way to its name."""

# The order of the system calls is the point.

from __future__ import annotations

import errno
import os
import stat

from core_infra.medium._access import keep_access
from core_infra.medium._temporary import discard, make_unfinished


class Replacement:
    """An unfinished file in the directory of the file that it will be.

    Args:
        directory: descriptor of that directory; closed by whichever of :meth:`commit` and
            :meth:`abandon` succeeds.
        name: the file's name in it.
        mode: its permission bits; by default those of the file it replaces.

    Attributes:
        fd: where its content is to be written; closing it is the caller's business.

    Raises:
        OSError: it cannot be made, or what is there is no file; the directory stays open.
    """

    def __init__(self, directory: int, name: str, mode: int | None) -> None:
        self._old = _replaceable(directory, name)
        self._directory = directory
        self._name = name
        self._mode = mode
        # Until it is finished, nobody may open it who may not open the file that it will be.
        private = mode is not None or self._old is not None
        self.fd, self._unfinished = make_unfinished(directory, name, private=private)

    def commit(self) -> None:
        """Bring the content to the disk, then give it the name."""
        directory = self._directory
        if self._old is not None:
            keep_access(self.fd, directory, self._name, self._old, self._mode)
        elif self._mode is not None:
            os.fchmod(self.fd, self._mode & 0o777)
        os.fsync(self.fd)
        os.replace(self._unfinished, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        sync_dir(directory)
        os.close(directory)

    def abandon(self) -> None:
        """Remove what was written."""
        try:
            discard(self.fd, self._directory, self._unfinished)
        finally:
            os.close(self._directory)


def sync_dir(directory: int) -> None:
    """Bring a directory's names to the disk."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some network and shared file systems have no fsync for directories.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise


def refuse_to_replace(directory: int, name: str, *, by_dir: bool) -> None:
    """Raise EEXIST if something is there that a rename must not replace."""
    try:
        there = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return
    if by_dir or stat.S_ISDIR(there.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _replaceable(directory: int, name: str) -> os.stat_result | None:
    try:
        old = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(old.st_mode):
        return None  # put there since the links were followed: it is replaced, not followed
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(old.st_mode):
        # A file must not take its place: all who use it by its name would lose it.
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return old
