"""The real file system."""

# Paths are strings here, and each call is to be the one system call that it names.
# ruff: noqa: PTH100, PTH102, PTH104, PTH105, PTH106, PTH108, PTH112, PTH114, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import contextlib
import errno
import io
import os
import posixpath
import shutil
import stat
from typing import TYPE_CHECKING, BinaryIO

from core_infra.medium.errors import InvalidPathError, path_error
from core_infra.medium.medium import FileInfo, Medium
from core_infra.medium.paths import RESERVED, clean, not_root
from core_infra.medium.realfile import RealFile, translated
from core_infra.medium.temporary import discard, make_unfinished, sweep
from core_infra.medium.writer import AtomicWriter

if TYPE_CHECKING:
    import builtins


class LocalMedium(Medium):
    """The real file system: paths are real paths, links are followed.

    Whole-file writes are atomic and durable: after a crash of the process or the machine at any
    point the file is the old one or the new one, and once the write has returned, the new one. A
    written file keeps the mode and, where the system allows it, the owner of the one it replaces;
    its other hard links keep the old content. What is appended is as durable as ordinary writes.

    Args:
        root: where relative paths begin; by default the working directory at the time of use.
            It is no fence: absolute paths and ``..`` lead out of it.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self._root = "" if root is None else os.path.abspath(root)

    def __repr__(self) -> str:
        return f"LocalMedium({self._root!r})" if self._root else "LocalMedium()"

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content."""
        real = self._real(path)
        with translated("read", path, real), io.FileIO(real) as file:
            return file.readall()

    def write_bytes(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file, atomically and durably."""
        with self.create(path, mode=mode) as file:
            file.write(data)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        real = self._real(path)
        with translated("read", path, real):
            return io.BufferedReader(RealFile(real, "r", "read", path, real))

    def create(self, path: str, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece, atomically and durably."""
        real = self._real(path)
        with translated("write", path, real):
            target = os.path.realpath(real) if os.path.islink(real) else real
            old = _replaceable(path, target)
            _make_dirs(os.path.dirname(target))
            fd, unfinished = make_unfinished(target)
            raw = RealFile(fd, "w", "write", path, real)

        def commit() -> None:
            with translated("write", path, real):
                if old is not None:
                    _keep_owner(fd, old)
                wanted = mode if old is None or mode is not None else old.st_mode
                if wanted is not None:
                    os.fchmod(fd, wanted & 0o777)
                os.fsync(fd)
                os.replace(unfinished, target)
                _sync_dir(os.path.dirname(target))

        def abandon() -> None:
            with translated("abandon", path, real):
                discard(fd, unfinished)

        return AtomicWriter(raw, commit, abandon)

    def append(self, path: str) -> BinaryIO:
        """Open a file for writing at its end."""
        real = self._real(path)
        with translated("append to", path, real):
            if os.path.isdir(real):
                raise path_error(errno.EISDIR, "append to", path, filename=real)
            _make_dirs(os.path.dirname(real))
            return io.BufferedWriter(RealFile(real, "a", "append to", path, real))

    def stat(self, path: str) -> FileInfo:
        """Describe what is at a path."""
        real = self._real(path)
        with translated("stat", path, real):
            info = os.stat(real)
        is_dir = stat.S_ISDIR(info.st_mode)
        return FileInfo(
            posixpath.basename(clean(path)) or ".",
            0 if is_dir else info.st_size,
            info.st_mode & 0o777,
            info.st_mtime,
            is_dir,
        )

    def list(self, path: str) -> builtins.list[str]:
        """Return the names in a directory."""
        real = self._real(path)
        with translated("list", path, real):
            return sorted(name for name in os.listdir(real) if not name.startswith(RESERVED))

    def ensure_dir(self, path: str) -> None:
        """Make a directory, unless it is there."""
        real = self._real(path)
        with translated("make the directory", path, real):
            _make_dirs(real)

    def rename(self, old: str, new: str) -> None:
        """Move a file or directory in one step, durably."""
        source, target = self._real(old), self._real(new)
        not_root(clean(old), "rename", old)
        not_root(clean(new), "rename to", new)
        action = f"rename {old!r} to"
        with translated("rename", old, source):
            is_dir = stat.S_ISDIR(os.lstat(source).st_mode)
        if source == target:
            return
        with translated(action, new, target):
            if is_dir and target.startswith(source + "/"):
                raise path_error(errno.EINVAL, action, new, filename=target)
            if os.path.isdir(target) or (is_dir and os.path.lexists(target)):
                raise path_error(errno.EEXIST, action, new, filename=target)
            _make_dirs(os.path.dirname(target))
            os.rename(source, target)
            _sync_dir(os.path.dirname(target))
            _sync_dir(os.path.dirname(source))

    def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        real = self._real(path)
        not_root(clean(path), "delete", path)
        with translated("delete", path, real):
            if not stat.S_ISDIR(os.lstat(real).st_mode):
                os.unlink(real)
                return
            try:
                os.rmdir(real)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                sweep(real)  # a directory that looks empty is empty
                os.rmdir(real)

    def delete_all(self, path: str) -> None:
        """Delete whatever is at a path; of a link, only the link."""
        real = self._real(path)
        not_root(clean(path), "delete", path)
        with translated("delete", path, real):
            try:
                info = os.lstat(real)
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISDIR(info.st_mode):
                shutil.rmtree(real)
            else:
                os.unlink(real)

    def _real(self, path: str) -> str:
        return os.path.abspath(os.path.join(self._root, clean(path)))


def _replaceable(path: str, target: str) -> os.stat_result | None:
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(old.st_mode):
        raise path_error(errno.EISDIR, "write", path, filename=target)
    if not stat.S_ISREG(old.st_mode):
        raise InvalidPathError(
            f"cannot write {target!r} as a whole",
            why="it is a device, a pipe or a socket, which must not be replaced by a file",
            todo="Use append.",
            path=path,
        )
    return old


def _make_dirs(directory: str) -> None:
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    _make_dirs(parent)
    try:
        os.mkdir(directory)
    except FileExistsError:
        if not os.path.isdir(directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    else:
        _sync_dir(parent)


def _sync_dir(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and shared file systems have no fsync for directories.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)


def _keep_owner(fd: int, old: os.stat_result) -> None:
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
