"""A file system that pyfakefs simulates, with the rules of several systems."""

from __future__ import annotations

import contextlib
import errno
import io
import posixpath
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from core_infra.errors import UnavailableError
from core_infra.medium.errors import path_error
from core_infra.medium.medium import FileInfo, Medium
from core_infra.medium.paths import RESERVED, not_root, rooted
from core_infra.medium.realfile import translated
from core_infra.medium.writer import AtomicWriter, writer_in_memory

if TYPE_CHECKING:
    import builtins

    from _typeshed import ReadableBuffer
    from pyfakefs.fake_filesystem import FakeFilesystem

_ROOT = "."
_UNFINISHED = f"{RESERVED}fake"


class FakeMedium(Medium):
    """A medium on a pyfakefs file system: slow, but it knows what systems forbid.

    Made with the file system of pyfakefs' ``fs`` fixture, it is the tree that code under test sees
    through plain ``open``, ``os`` and ``pathlib``. Disks that are full (``set_disk_usage``), files
    without permission and names that differ in case only behave as on the system that is simulated.
    No other program sees the tree, nor does any library written in C.

    ``/a`` and ``a`` are the same path, and nothing is above the root.

    Args:
        filesystem: the file system; by default a new, empty one.
        system: what a new one behaves like.

    Attributes:
        filesystem: the file system.

    Raises:
        UnavailableError: pyfakefs is not installed.
    """

    def __init__(
        self,
        filesystem: FakeFilesystem | None = None,
        *,
        system: Literal["linux", "macos", "windows"] = "linux",
    ) -> None:
        fakes = _pyfakefs()
        if filesystem is None:
            filesystem = fakes.fake_filesystem.FakeFilesystem()
            filesystem.os = getattr(fakes.fake_filesystem.OSType, system.upper())
        self.filesystem: FakeFilesystem = filesystem
        self._open = fakes.fake_open.FakeFileOpen(filesystem)
        # Of the fake os only these functions: it hands what it does not know to the real one.
        fake = fakes.fake_os.FakeOsModule(filesystem)
        self._stat, self._lstat, self._listdir = fake.stat, fake.lstat, fake.listdir
        self._mkdir, self._rmdir, self._remove = fake.mkdir, fake.rmdir, fake.remove
        self._replace, self._chmod = fake.replace, fake.chmod

    def __repr__(self) -> str:
        return f"FakeMedium({self.filesystem!r})"

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content."""
        real = self._file("read", path)
        with translated("read", path, path), self._open(real, "rb") as file:
            return cast("bytes", file.read())

    def write_bytes(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        key = self._place("write", path)
        real = self._real(key)
        unfinished = self._real(posixpath.join(posixpath.dirname(key), _UNFINISHED))
        with translated("write", path, path):
            if mode is None:
                with contextlib.suppress(FileNotFoundError):
                    mode = self._stat(real).st_mode
            try:
                with self._open(unfinished, "wb") as file:
                    file.write(data)
                if mode is not None:
                    self._chmod(unfinished, mode & 0o777)
                self._replace(unfinished, real)
            except OSError:
                with contextlib.suppress(OSError):
                    self._remove(unfinished)
                raise

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; it reads the version of this moment."""
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self.read_bytes(path))))

    def create(self, path: str, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        self._place("write", path)
        return writer_in_memory(lambda data: self.write_bytes(path, data, mode=mode))

    def append(self, path: str) -> BinaryIO:
        """Open a file for writing at its end."""
        real = self._real(self._place("append to", path))
        with translated("append to", path, path):
            return io.BufferedWriter(_Appender(self._open(real, "ab"), path))

    def stat(self, path: str) -> FileInfo:
        """Describe what is at a path."""
        info = self._find("stat", path)
        is_dir = stat.S_ISDIR(info.st_mode)
        name = posixpath.basename(rooted(path)) or "."
        size = 0 if is_dir else info.st_size
        return FileInfo(name, size, info.st_mode & 0o777, info.st_mtime, is_dir)

    def list(self, path: str) -> builtins.list[str]:
        """Return the names in a directory."""
        if not stat.S_ISDIR(self._find("list", path).st_mode):
            raise path_error(errno.ENOTDIR, "list", path)
        with translated("list", path, path):
            names = self._listdir(self._real(rooted(path)))
        return sorted(name for name in names if not name.startswith(RESERVED))

    def ensure_dir(self, path: str) -> None:
        """Make a directory, unless it is there."""
        self._make_dirs("make the directory", path, rooted(path))

    def rename(self, old: str, new: str) -> None:
        """Move a file or directory in one step."""
        source = not_root(rooted(old), "rename", old)
        target = not_root(rooted(new), "rename to", new)
        action = f"rename {old!r} to"
        is_dir = stat.S_ISDIR(self._find("rename", old).st_mode)
        if source == target:
            return
        if is_dir and target.startswith(source + "/"):
            raise path_error(errno.EINVAL, action, new)
        there = self._look(new)
        if there is not None and (there.is_dir or is_dir):
            raise path_error(errno.EEXIST, action, new)
        self._make_dirs(action, new, posixpath.dirname(target) or _ROOT)
        with translated(action, new, new):
            self._replace(self._real(source), self._real(target))

    def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        key = not_root(rooted(path), "delete", path)
        info = self._find("delete", path, follow=False)
        with translated("delete", path, path):
            remove = self._rmdir if stat.S_ISDIR(info.st_mode) else self._remove
            remove(self._real(key))

    def delete_all(self, path: str) -> None:
        """Delete whatever is at a path."""
        key = not_root(rooted(path), "delete", path)
        with translated("delete", path, path):
            try:
                info = self._lstat(self._real(key))
            except (FileNotFoundError, NotADirectoryError):
                return
            if not stat.S_ISDIR(info.st_mode):
                self._remove(self._real(key))
                return
            for name in self._listdir(self._real(key)):
                self.delete_all(f"{key}/{name}")
            self._rmdir(self._real(key))

    def _real(self, key: str) -> str:
        root = self.filesystem.root_dir_name
        return root if key == _ROOT else root + key

    def _find(self, action: str, path: str, *, follow: bool = True) -> Any:
        look = self._stat if follow else self._lstat
        key = rooted(path)
        try:
            return look(self._real(key))
        except OSError as error:
            # pyfakefs has no such thing as a file among the parents when it reads.
            code = errno.ENOTDIR if self._file_above(key) else error.errno or errno.EIO
            raise path_error(code, action, path) from error

    def _file_above(self, key: str) -> bool:
        above = key
        while above := posixpath.dirname(above):
            with contextlib.suppress(OSError):
                return not stat.S_ISDIR(self._stat(self._real(above)).st_mode)
        return False

    def _file(self, action: str, path: str) -> str:
        if stat.S_ISDIR(self._find(action, path).st_mode):
            raise path_error(errno.EISDIR, action, path)
        return self._real(rooted(path))

    def _place(self, action: str, path: str) -> str:
        """Where a file goes; its directory is made."""
        key = rooted(path)
        there = self._look(path)
        if there is not None and there.is_dir:
            raise path_error(errno.EISDIR, action, path)
        self._make_dirs(action, path, posixpath.dirname(key) or _ROOT)
        return key

    def _make_dirs(self, action: str, path: str, key: str) -> None:
        there = self._look(key)
        if there is None:
            self._make_dirs(action, path, posixpath.dirname(key) or _ROOT)
            with translated(action, path, path):
                self._mkdir(self._real(key))
        elif not there.is_dir:
            raise path_error(errno.ENOTDIR, action, path)


class _Appender(io.RawIOBase):
    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        with translated("append to", self._path, self._path):
            count = self._file.write(data)
            self._file.flush()
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            with contextlib.suppress(OSError):  # told by the write that failed
                self._file.close()


def _pyfakefs() -> Any:
    try:
        import pyfakefs.fake_filesystem  # noqa: PLC0415 - an extra
        import pyfakefs.fake_open  # noqa: PLC0415
        import pyfakefs.fake_os  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "cannot make a FakeMedium",
            why="it needs pyfakefs",
            todo="Install it with: pip install core-infra[pyfakefs]",
        ) from error
    return pyfakefs
