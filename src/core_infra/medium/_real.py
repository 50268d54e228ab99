"""Operations on real files, for every medium that has them."""

# The order of the system calls is the point.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import errno
import io
import os
import posixpath
import stat
from typing import TYPE_CHECKING, BinaryIO

from core_infra.medium._arguments import check_data, check_mode
from core_infra.medium._contended_write import write_contended
from core_infra.medium._deletion import delete_tree
from core_infra.medium._errors import path_error
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._opening import (
    DIRECTORY,
    Made,
    open_above,
    open_above_target,
    open_dir,
    while_deleted,
)
from core_infra.medium._paths import RESERVED, clean, not_root
from core_infra.medium._real_file import RealFile, map_os_errors
from core_infra.medium._replacement import Replacement, refuse_to_replace, sync_dir
from core_infra.medium._temporary import sweep
from core_infra.medium._writer import AppendWriter, AtomicWriter

if TYPE_CHECKING:
    import builtins
    from contextlib import AbstractContextManager

    from core_infra.medium._errors import StrPath

_LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC


class RealMedium(Medium):
    """The operations; a subclass defines which paths are allowed and how they are opened."""

    def _where(self, path: StrPath) -> str:
        """Return the path for :meth:`_open`; raise if it is not allowed."""
        raise NotImplementedError

    def _open(self, where: str, flags: int) -> int:
        """Open a path as os.open does; links are followed if allowed."""
        raise NotImplementedError

    def _filename(self, where: str) -> str:
        """Return the path for error messages."""
        raise NotImplementedError

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        where = self._where(path)
        with (
            self._mapping_errors("read", path, where),
            io.FileIO(where, opener=self._open_file) as file,
        ):
            return file.readall()

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file, atomically and durably."""
        check_data(data)
        file = self.create(path, mode=mode)
        try:
            with file:
                file.write(data)
        except FileNotFoundError:  # the directory was deleted at the same time
            with self._mapping_errors("write", path, self._where(path)):
                write_contended(self._open, self._where(path), data, mode)

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading."""
        where = self._where(path)
        with self._mapping_errors("read", path, where):
            context = ("read", path, self._filename(where))
            return io.BufferedReader(RealFile(where, "r", context, opener=self._open_file))

    def create(self, path: StrPath, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece, atomically and durably."""
        check_mode(mode)
        where = self._where(path)

        def begin(made: Made) -> Replacement:
            directory, name = open_above_target(self._open, where, made)
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, directory)
                replacement = Replacement(directory, name, mode)
                undo.pop_all()
                undo.callback(replacement.abandon)
                made.sync()
                undo.pop_all()
            return replacement

        with self._mapping_errors("write", path, where):
            replacement = while_deleted(begin)
            raw = RealFile(replacement.fd, "w", ("write", path, self._filename(where)))

        def commit() -> None:
            with self._mapping_errors("write", path, where):
                replacement.commit()

        def abandon() -> None:
            with self._mapping_errors("abandon", path, where):
                replacement.abandon()

        return AtomicWriter(raw, commit, abandon)

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for appending."""
        where = self._where(path)
        context = ("append to", path, self._filename(where))

        def begin(made: Made) -> RealFile:
            os.close(open_above_target(self._open, where, made)[0])
            file = RealFile(where, "a", context, opener=self._open_file)
            made.sync()
            return file

        with self._mapping_errors("append to", path, where):
            return AppendWriter(while_deleted(begin))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe the file or directory at a path."""
        where = self._where(path)
        with self._mapping_errors("stat", path, where):
            info = self._stat(where)
        is_dir = stat.S_ISDIR(info.st_mode)
        return FileInfo(
            posixpath.basename(clean(path)) or ".",
            0 if is_dir else info.st_size,
            info.st_mode & 0o777,
            info.st_mtime,
            is_dir,
        )

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        where = self._where(path)
        with self._mapping_errors("list", path, where):
            directory = open_dir(self._open, where)
            try:
                names = os.listdir(directory)
            finally:
                os.close(directory)
        return sorted(name for name in names if not name.startswith(RESERVED))

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        where = self._where(path)

        def make(made: Made) -> None:
            os.close(open_dir(self._open, where, made))
            made.sync()

        with self._mapping_errors("make the directory", path, where):
            while_deleted(make)

    def identity(self, path: StrPath) -> object:
        """Return the device and the inode number."""
        where = self._where(path)
        with self._mapping_errors("stat", path, where):
            info = self._stat(where)
        return info.st_dev, info.st_ino

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory atomically and durably; of a link, the link."""
        source = self._where(old)
        not_root(clean(old), "rename", old)
        target = self._where(new)
        not_root(clean(new), "rename to", new)
        action = f"rename {old!r} to"
        with contextlib.ExitStack() as stack:
            with self._mapping_errors("rename", old, source):
                above, name = open_above(self._open, source)
                stack.callback(os.close, above)
                is_dir = stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode)
            if source == target:
                return
            with self._mapping_errors(action, new, target):
                if is_dir and target.startswith(source + "/"):
                    raise path_error(errno.EINVAL, action, new, filename=self._filename(target))
                while_deleted(lambda made: self._move(above, name, target, made, is_dir=is_dir))

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory; of a link, the link."""
        where = self._where(path)
        not_root(clean(path), "delete", path)
        with self._mapping_errors("delete", path, where), contextlib.ExitStack() as stack:
            above, name = open_above(self._open, where)
            stack.callback(os.close, above)
            if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                os.unlink(name, dir_fd=above)
                return
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                inner = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
                stack.callback(os.close, inner)
                sweep(inner)  # left-over unfinished files are hidden: the directory looks empty
                os.rmdir(name, dir_fd=above)

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree; of a link, only the link."""
        where = self._where(path)
        not_root(clean(path), "delete", path)
        with self._mapping_errors("delete", path, where), contextlib.ExitStack() as stack:
            try:
                above, name = open_above(self._open, where)
            except (FileNotFoundError, NotADirectoryError):
                return
            stack.callback(os.close, above)
            delete_tree(above, name)

    def _move(self, above: int, name: str, target: str, made: Made, *, is_dir: bool) -> None:
        to, new_name = open_above(self._open, target, made)
        try:
            refuse_to_replace(to, new_name, by_dir=is_dir)
            os.rename(name, new_name, src_dir_fd=above, dst_dir_fd=to)
            sync_dir(to)
            sync_dir(above)
            made.sync()
        finally:
            os.close(to)

    def _mapping_errors(
        self, action: str, path: StrPath, where: str
    ) -> AbstractContextManager[None]:
        return map_os_errors(action, path, self._filename(where))

    def _open_file(self, where: str, flags: int) -> int:
        """Open a file for io.FileIO, which itself refuses directories.

        Reading devices and pipes may block or never end, so they are refused, except character
        devices (``/dev/null``) for appending.
        """
        fd = self._open(where, flags | os.O_NONBLOCK | os.O_NOCTTY)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            if not (flags & os.O_APPEND and stat.S_ISCHR(mode)):
                os.close(fd)
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            os.set_blocking(fd, True)
        return fd

    def _stat(self, where: str) -> os.stat_result:
        fd = self._open(where, _LOOK)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _entry_to_make(self, where: str) -> tuple[int, str]:
        """Make the directory of an entry if it is missing; open it, and return the name, too."""

        def attempt(made: Made) -> tuple[int, str]:
            directory, name = open_above(self._open, where, made)
            made.sync()
            return directory, name

        return while_deleted(attempt)
