"""Opens entries of the real file system by the directory that they are in, and makes parents.

A change then names an open directory and one name in it, so replacing a directory by a link at the
same time cannot redirect the change.
"""

# The order of the system calls is the point.

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import posixpath
import stat
from typing import TYPE_CHECKING, TypeVar

from core_infra.medium._replacement import sync_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[[str, int], int]
    """Opens a path with flags, as os.open does; links are followed if allowed."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
TRIES = 1000
"""The limit of retries while other programs delete or fill the same directories."""
_LINKS = 40
"""The kernel's limit of links for one path."""

_T = TypeVar("_T")


class Made:
    """Directories in which a try made others, to be flushed to the disk once it has succeeded.

    Flushing takes so long that another program could delete the directories again meanwhile.
    """

    def __init__(self) -> None:
        self._directories: list[int] = []

    def add(self, directory: int) -> None:
        """Flush this directory later."""
        # One descriptor for each level of a deep tree would reach the process's limit.
        if len(self._directories) == _OPEN_MAX:
            self.sync()
            self.close()
        self._directories.append(os.dup(directory))

    def sync(self) -> None:
        """Flush the directories."""
        for directory in self._directories:
            sync_dir(directory)

    def close(self) -> None:
        """Release the descriptors."""
        while self._directories:
            os.close(self._directories.pop())


_OPEN_MAX = 64
"""The number of directories that are kept open to be flushed."""


def while_deleted(attempt: Callable[[Made], _T]) -> _T:
    """Retry an operation that makes missing parents, while other programs delete these.

    Raises:
        FileNotFoundError: it still fails, for example because the root has been deleted.
    """
    for tries in itertools.count(1):
        with contextlib.closing(Made()) as made:
            try:
                return attempt(made)
            except FileNotFoundError:
                if tries == TRIES:
                    raise
    raise AssertionError  # count() does not end


def open_dir(open_path: Open, where: str, made: Made | None = None) -> int:
    """Open a directory; with *made*, create it and its parents first.

    Raises:
        OSError: it does not exist, or cannot be made or opened.
    """
    missing: list[str] = []
    while True:
        try:
            directory = open_path(where, DIRECTORY)
            break
        except FileNotFoundError:
            if made is None or where == ".":
                raise
        missing.append(where)
        where = posixpath.dirname(where) or "."
    while missing:
        assert made is not None  # noqa: S101 - see above
        try:
            below = _make_dir(open_path, missing.pop(), directory, made)
        finally:
            os.close(directory)
        directory = below
    return directory


def _make_dir(open_path: Open, where: str, above: int, made: Made) -> int:
    name = posixpath.basename(where)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
        made.add(above)
    try:
        return open_path(where, DIRECTORY)
    except FileNotFoundError as error:
        if not _is_link(above, name):
            raise  # deleted at the same time
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def open_above(open_path: Open, where: str, made: Made | None = None) -> tuple[int, str]:
    """Open the directory of an entry; return it and the entry's name."""
    above, name = posixpath.split(where)
    return open_dir(open_path, above or ".", made), name


def open_above_target(open_path: Open, where: str, made: Made) -> tuple[int, str]:
    """Follow all links of a file to write; return its open directory and its name.

    Raises:
        OSError: EISDIR if the path is a directory, ELOOP, and as :func:`open_dir` does.
    """
    for _ in range(_LINKS):
        if posixpath.basename(where) in {"", ".", ".."}:
            os.close(open_dir(open_path, where))
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        above, name = open_above(open_path, where, made)
        try:
            link = os.readlink(name, dir_fd=above)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:  # not a link
                return above, name
            os.close(above)
            raise
        os.close(above)
        where = posixpath.join(posixpath.dirname(where), link)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def identity_of(directory: int) -> tuple[int, int]:
    """The device and the inode of an open directory, to recognize it when it is opened again."""
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def open_again(identity: tuple[int, int], below: int, flags: int = DIRECTORY) -> int:
    """Open a directory again, from a directory in it.

    Raises:
        FileNotFoundError: the one below was moved meanwhile, so it is in another directory now.
    """
    directory = os.open("..", flags, dir_fd=below)
    if identity_of(directory) != identity:
        os.close(directory)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return directory


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False
