"""Deletes trees of any depth, also while other programs write into them or delete them."""

# The order of the system calls is the point.

from __future__ import annotations

import errno
import os
import stat

from core_infra.medium._opening import DIRECTORY, TRIES, identity_of, open_again

_OPEN = 32
"""The number of directories that are kept open at most; those above are opened again by ``..``."""


def delete_tree(directory: int, name: str) -> None:
    """Delete an entry, if it exists, and everything in it; of a link, the link.

    Args:
        directory: descriptor of its directory.
        name: its name in it.

    Raises:
        OSError: EBUSY if other programs keep writing into it, or the system's error.
    """
    for _ in range(TRIES):
        try:
            is_dir = stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
        except FileNotFoundError:
            return
        try:
            if is_dir:
                _delete_dir(directory, name)
            else:
                os.unlink(name, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass  # another program deletes or replaces it
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # another program writes into it
                raise
        else:
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


class _Level:
    """A directory between the top of a tree and the place where it is being deleted."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self.inner = _unlink_files(fd)
        self._identity = identity_of(fd)

    def close(self) -> None:
        """Release its descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reopen(self, below: int) -> None:
        """Open it again, from a directory in it."""
        self.fd = open_again(self._identity, below)


def _delete_dir(directory: int, name: str) -> None:
    # Neither recursive nor with a descriptor for each level: a tree may be deeper than both limits.
    levels: list[_Level] = []
    try:
        _enter(levels, directory, name)
        while levels:
            here = levels[-1]
            if here.inner:
                _enter(levels, here.fd, here.inner.pop())
                if len(levels) > _OPEN:
                    levels[-1 - _OPEN].close()
                continue
            if len(levels) > 1 and levels[-2].fd < 0:
                levels[-2].reopen(here.fd)
            levels.pop().close()
            os.rmdir(here.name, dir_fd=levels[-1].fd if levels else directory)
    finally:
        for level in levels:
            level.close()


def _enter(levels: list[_Level], above: int, name: str) -> None:
    fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        levels.append(_Level(name, fd))
    except BaseException:
        os.close(fd)
        raise


def _unlink_files(directory: int) -> list[str]:
    """Delete everything in a directory but the directories in it; return their names."""
    with os.scandir(directory) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_dir in entries:
        if not is_dir:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_dir in entries if is_dir]
