"""Loads a real directory into memory."""

# Each path is the text that os.scandir gave.
# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from core_infra.medium._arguments import root_path
from core_infra.medium._links import ROOT, join
from core_infra.medium._memory import MemoryMedium
from core_infra.medium._paths import RESERVED
from core_infra.medium._real_file import map_os_errors

if TYPE_CHECKING:
    from core_infra.medium._memory_tree import MemoryTree


def load(directory: str | os.PathLike[str]) -> MemoryMedium:
    """Read a directory tree into memory; changes to the result do not affect the directory.

    Unlike :func:`~core_infra.medium.copy`, it keeps links as links, the modes of directories, and
    the times of files. A link that leads out of the directory is kept as well; following it raises
    OutsideSandboxError.

    Raises:
        PathNotFoundError: the directory does not exist.
        PathNotDirectoryError: it is not a directory.
        InvalidPathError: it contains a device, a pipe or a socket.
        AccessDeniedError: an entry may not be read.
    """
    medium = MemoryMedium()
    tree = medium._tree  # noqa: SLF001 - one of us
    todo = [(root_path(directory), ROOT)]
    while todo:
        real, key = todo.pop()
        with map_os_errors("load", real, real), os.scandir(real) as entries:
            for entry in entries:
                if entry.name.startswith(RESERVED):
                    continue
                inner = join(key, entry.name)
                with map_os_errors("load", entry.path, entry.path):
                    if _put(tree, inner, entry):
                        todo.append((entry.path, inner))
    return medium


def _put(tree: MemoryTree, key: str, entry: os.DirEntry[str]) -> bool:
    """Store one entry; return whether it is a directory."""
    info = entry.stat(follow_symlinks=False)
    mode = info.st_mode & 0o777
    if entry.is_symlink():
        tree.put_link(key, os.readlink(entry.path))
    elif stat.S_ISDIR(info.st_mode):
        tree.put_dir(key).mode = mode
        return True
    elif stat.S_ISREG(info.st_mode):
        with open(entry.path, "rb") as file:
            tree.put_file(key, file.read(), mode, info.st_mtime)
    else:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return False
