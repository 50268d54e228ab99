"""A real directory as a tree in memory."""

# Each path is the text that os.scandir gave.
# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from core_infra.medium._links import ROOT, join
from core_infra.medium._memory import MemoryMedium
from core_infra.medium._paths import RESERVED
from core_infra.medium._real_file import translated

if TYPE_CHECKING:
    from core_infra.medium._memory_tree import Index


def load(directory: str | os.PathLike[str]) -> MemoryMedium:
    """Read a directory with all that is in it; what is written to the result stays in memory.

    Unlike :func:`~core_infra.medium._copy.copy`, it keeps links as links, the modes of directories,
    and the times of files. A link that leads out of the directory is kept too; following it is an
    OutsideSandboxError.

    Raises:
        PathNotFoundError: there is no such directory.
        PathNotDirectoryError: it is no directory.
        InvalidPathError: there is a device, a pipe or a socket in it.
        AccessDeniedError: something in it may not be read.
    """
    medium = MemoryMedium()
    index = medium._index  # noqa: SLF001 - one of us
    todo = [(os.fspath(directory), ROOT)]
    while todo:
        real, key = todo.pop()
        with translated("load", real, real), os.scandir(real) as entries:
            for entry in entries:
                if entry.name.startswith(RESERVED):
                    continue
                inner = join(key, entry.name)
                with translated("load", entry.path, entry.path):
                    if _put(index, inner, entry):
                        todo.append((entry.path, inner))
    return medium


def _put(index: Index, key: str, entry: os.DirEntry[str]) -> bool:
    """Put one entry; tell whether it is a directory."""
    info = entry.stat(follow_symlinks=False)
    mode = info.st_mode & 0o777
    if entry.is_symlink():
        index.put_link(key, os.readlink(entry.path))
    elif stat.S_ISDIR(info.st_mode):
        index.put_dir(key).mode = mode
        return True
    elif stat.S_ISREG(info.st_mode):
        with open(entry.path, "rb") as file:
            index.put_file(key, file.read(), mode, info.st_mtime)
    else:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return False
