"""Operations on real files, for every medium that has them.

Each change names an open directory and one name in it, so replacing a directory by a link at the
same time cannot redirect the change.
"""

# The order of the system calls is the point.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import posixpath
import stat
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from core_infra.medium._errors import path_error
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._paths import RESERVED, clean, not_root
from core_infra.medium._real_file import RealFile, map_os_errors
from core_infra.medium._replacement import Replacement, refuse_to_replace, sync_dir
from core_infra.medium._temporary import sweep
from core_infra.medium._writer import AppendWriter, AtomicWriter

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from core_infra.medium._errors import StrPath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
_LINKS = 40
"""The kernel's limit of links for one path."""
_TRIES = 1000
"""The limit of retries while other programs delete or fill the same directories."""
_TRY_ABOVE = {errno.ENOENT, errno.ESTALE, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of a directory that was deleted or cannot hold the file; one above it may do."""

_T = TypeVar("_T")


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
        file = self.create(path, mode=mode)
        try:
            with file:
                file.write(data)
        except FileNotFoundError:  # the directory was deleted at the same time
            with self._mapping_errors("write", path, self._where(path)):
                self._write_from_above(self._where(path), data, mode)

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading."""
        where = self._where(path)
        with self._mapping_errors("read", path, where):
            context = ("read", path, self._filename(where))
            return io.BufferedReader(RealFile(where, "r", context, opener=self._open_file))

    def create(self, path: StrPath, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece, atomically and durably."""
        where = self._where(path)

        def begin(made: _Made) -> Replacement:
            directory, name = self._target(where, made)
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, directory)
                replacement = Replacement(directory, name, mode)
                undo.pop_all()
                undo.callback(replacement.abandon)
                made.sync()
                undo.pop_all()
            return replacement

        with self._mapping_errors("write", path, where):
            replacement = _while_deleted(begin)
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

        def begin(made: _Made) -> RealFile:
            os.close(self._target(where, made)[0])
            file = RealFile(where, "a", context, opener=self._open_file)
            made.sync()
            return file

        with self._mapping_errors("append to", path, where):
            return AppendWriter(_while_deleted(begin))

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
            directory = self._dir(where)
            try:
                names = os.listdir(directory)
            finally:
                os.close(directory)
        return sorted(name for name in names if not name.startswith(RESERVED))

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        where = self._where(path)

        def make(made: _Made) -> None:
            os.close(self._dir(where, made))
            made.sync()

        with self._mapping_errors("make the directory", path, where):
            _while_deleted(make)

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
                above, name = self._entry(source)
                stack.callback(os.close, above)
                is_dir = stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode)
            if source == target:
                return
            with self._mapping_errors(action, new, target):
                if is_dir and target.startswith(source + "/"):
                    raise path_error(errno.EINVAL, action, new, filename=self._filename(target))
                _while_deleted(lambda made: self._move(above, name, target, made, is_dir=is_dir))

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory; of a link, the link."""
        where = self._where(path)
        not_root(clean(path), "delete", path)
        with self._mapping_errors("delete", path, where), contextlib.ExitStack() as stack:
            above, name = self._entry(where)
            stack.callback(os.close, above)
            if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                os.unlink(name, dir_fd=above)
                return
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
                stack.callback(os.close, inner)
                sweep(inner)  # left-over unfinished files are hidden: the directory looks empty
                os.rmdir(name, dir_fd=above)

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree; of a link, only the link."""
        where = self._where(path)
        not_root(clean(path), "delete", path)
        with self._mapping_errors("delete", path, where), contextlib.ExitStack() as stack:
            try:
                above, name = self._entry(where)
            except (FileNotFoundError, NotADirectoryError):
                return
            stack.callback(os.close, above)
            for _ in range(_TRIES):
                if not _is_there(above, name):
                    return
                try:
                    _delete_all(above, name)
                except (FileNotFoundError, NotADirectoryError):
                    pass  # another program deletes or replaces it
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # another program writes into it
                        raise
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _write_from_above(self, where: str, data: bytes, mode: int | None) -> None:
        """Write a file whose directory other programs keep deleting.

        The content is written and flushed in a directory above, and only renamed into its own:
        so a try is short. After each failure, the next directory above is used.
        """
        above = posixpath.dirname(where)
        while above not in {"", ".", "/"}:
            above = posixpath.dirname(above)
            try:
                holder = self._dir(above or ".")
            except FileNotFoundError:
                continue
            try:
                self._write_from(holder, where, data, mode)
            except OSError as error:
                if error.errno not in _TRY_ABOVE:
                    raise
            else:
                return
            finally:
                os.close(holder)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _write_from(self, holder: int, where: str, data: bytes, mode: int | None) -> None:
        directory, name = _while_deleted(lambda made: self._target(where, made))
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, directory)
            replacement = Replacement(directory, name, mode, holder=holder)
            undo.pop_all()
            undo.callback(os.close, replacement.fd)
            undo.callback(replacement.abandon)
            with open(replacement.fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(replacement.fd)

            def attempt(made: _Made) -> None:
                if not os.fstat(replacement.fd).st_nlink:  # deleted together with its holder
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                replacement.aim(*self._target(where, made))
                replacement.commit()
                made.sync()

            _while_deleted(attempt)

    def _move(self, above: int, name: str, target: str, made: _Made, *, is_dir: bool) -> None:
        to, new_name = self._entry(target, made)
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

    def _dir(self, where: str, made: _Made | None = None) -> int:
        """Open a directory; with *made*, create it and its parents first."""
        try:
            return self._open(where, _DIRECTORY)
        except FileNotFoundError:
            if made is None or where == ".":
                raise
        above, name = self._entry(where, made)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
                made.add(above)
            try:
                return self._open(where, _DIRECTORY)
            except FileNotFoundError as error:
                if not _is_link(above, name):
                    raise  # deleted at the same time
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        finally:
            os.close(above)

    def _entry(self, where: str, made: _Made | None = None) -> tuple[int, str]:
        """Open the directory of an entry; return it and the entry's name."""
        above, name = posixpath.split(where)
        return self._dir(above or ".", made), name

    def _entry_to_make(self, where: str) -> tuple[int, str]:
        """Make the directory of an entry if it is missing; open it, and return the name, too."""

        def attempt(made: _Made) -> tuple[int, str]:
            directory, name = self._entry(where, made)
            made.sync()
            return directory, name

        return _while_deleted(attempt)

    def _target(self, where: str, made: _Made) -> tuple[int, str]:
        """Follow all links of a file to write; return its directory and name."""
        for _ in range(_LINKS):
            if posixpath.basename(where) in {"", ".", ".."}:
                os.close(self._dir(where))
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            above, name = self._entry(where, made)
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


class _Made:
    """Directories in which a try made others, to be flushed to the disk once it has succeeded.

    Flushing takes so long that another program could delete the directories again meanwhile.
    """

    def __init__(self) -> None:
        self._directories: list[int] = []

    def add(self, directory: int) -> None:
        self._directories.append(os.dup(directory))

    def sync(self) -> None:
        for directory in self._directories:
            sync_dir(directory)

    def close(self) -> None:
        for directory in self._directories:
            os.close(directory)


def _while_deleted(attempt: Callable[[_Made], _T]) -> _T:
    """Retry an operation that makes missing parents, while other programs delete these.

    Raises:
        FileNotFoundError: it still fails, for example because the root has been deleted.
    """
    for tries in itertools.count(1):
        with contextlib.closing(_Made()) as made:
            try:
                return attempt(made)
            except FileNotFoundError:
                if tries == _TRIES:
                    raise
    raise AssertionError  # count() does not end


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


def _is_there(directory: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _delete_all(directory: int, name: str) -> None:
    if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
        import shutil  # noqa: PLC0415 - few need it, and it brings four compressors

        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)
