"""The new version of a file, until it atomically replaces the old one."""

# The order of the system calls is the point.

from __future__ import annotations

import errno
import os
import stat

from core_infra.medium._access import attributes_of, attributes_of_open, keep_access
from core_infra.medium._temporary import discard, make_unfinished


class Replacement:
    """An unfinished file, in the directory of the file that it will replace.

    Args:
        directory: descriptor of that directory; a successful :meth:`commit` or :meth:`abandon`
            closes it.
        name: the file's name in it.
        mode: its permission bits; by default those of the file it replaces.

    Attributes:
        fd: the descriptor to write the content to; the caller closes it.

    Raises:
        OSError: it cannot be created, or the name is not that of a file; the directory stays open.
    """

    def __init__(self, directory: int, name: str, mode: int | None) -> None:
        self._old = _replaceable(directory, name)
        self._directory = directory
        self._name = name
        self._mode = mode
        self._flushed = False
        self._committed = False
        # The unfinished file must not be readable for more users than the finished one.
        private = mode is not None or self._old is not None
        self.fd, self._unfinished = make_unfinished(directory, name, private=private)

    def take(self, fd: int, holder: int, unfinished: str) -> None:
        """Use an unfinished file of another directory, whose content is flushed, instead.

        It is moved here first, and gets the access of a file that was made here only then: this
        directory may be closed to others, and the other may not.

        Args:
            fd: its descriptor; the caller closes it, and the one in :attr:`fd` so far.
            holder: descriptor of its directory, in the same file system.
            unfinished: its name there; only its owner may open it.
        """
        own, attributes = os.fstat(self.fd), attributes_of_open(self.fd)
        os.replace(unfinished, self._unfinished, src_dir_fd=holder, dst_dir_fd=self._directory)
        self.fd = fd
        self._flushed = True
        keep_access(fd, own, attributes)

    def commit(self) -> None:
        """Flush the content to the disk, then rename the file."""
        directory = self._directory
        if self._old is not None:
            keep_access(self.fd, self._old, attributes_of(self._name, directory), self._mode)
        elif self._mode is not None:
            os.fchmod(self.fd, self._mode & 0o777)
        if not self._flushed:
            os.fsync(self.fd)
        os.replace(self._unfinished, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        if self._flushed:  # until now, only its owner's access was
            os.fsync(self.fd)
        sync_dir(directory)
        os.close(directory)
        self._committed = True

    def abandon(self) -> None:
        """Remove the unfinished file, unless it has been committed."""
        if self._committed:
            return
        try:
            discard(self.fd, self._directory, self._unfinished)
        finally:
            os.close(self._directory)


def sync_dir(directory: int) -> None:
    """Flush a directory's names to the disk."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some network and shared file systems do not support fsync for directories.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise


def refuse_to_replace(directory: int, name: str, *, by_dir: bool) -> None:
    """Raise EEXIST if the name is taken by an entry that a rename must not replace."""
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
        return None  # created after the links were followed: it is replaced, not followed
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(old.st_mode):
        # A device, pipe or socket must not be replaced: programs use it by its name.
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return old
