"""The real file system."""

# Paths are strings here, and each call must be exactly the system call that it names.
# ruff: noqa: PTH100, PTH116, PTH118

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from core_infra.medium._arguments import root_path
from core_infra.medium._errors import path_error
from core_infra.medium._paths import clean
from core_infra.medium._real import RealMedium

if TYPE_CHECKING:
    from core_infra.medium._errors import StrPath


class LocalMedium(RealMedium):
    """The real file system: paths are real paths, links are followed.

    Writes of whole files are atomic and durable: after a crash of the process or the machine at any
    point, the file is the old or the new one; once the write has returned, it is the new one. A
    written file keeps the mode and, where the system allows it, the owner of the file it replaces;
    other hard links keep the old content. Appended data is as durable as ordinary writes.

    Args:
        root: the base of relative paths; by default the working directory at the time of use.
            It does not confine: absolute paths and ``..`` lead out of it.

    Raises:
        InvalidPathError: *root* is malformed.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self._root = "" if root is None else root_path(root)

    def __repr__(self) -> str:
        return f"LocalMedium({self._root!r})" if self._root else "LocalMedium()"

    def real_path(self, path: StrPath) -> str:
        """Return the absolute path of a file for other programs.

        Raises:
            InvalidPathError: the path is malformed.
            PathNotFoundError: the path is relative, and the working directory has been deleted.
        """
        return self._where(path)

    def _where(self, path: StrPath) -> str:
        try:
            return os.path.abspath(os.path.join(self._root, clean(path)))
        except FileNotFoundError as error:
            raise path_error(errno.ENOENT, "find the working directory for", path) from error

    def _open(self, where: str, flags: int) -> int:
        return os.open(where, flags, 0o666)

    def _filename(self, where: str) -> str:
        return where

    def _stat(self, where: str) -> os.stat_result:
        return os.stat(where)
