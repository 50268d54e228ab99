"""A file system that pyfakefs simulates, with the rules of different operating systems."""

from __future__ import annotations

import contextlib
import errno
import io
import posixpath
import stat
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn, cast

from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.medium._arguments import check_data, check_methods, check_mode
from core_infra.medium._links import ROOT, join, name_of, parent, place, walk
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._nodes import Dir, Link
from core_infra.medium._paths import RESERVED, not_root, rooted
from core_infra.medium._real_file import map_os_errors
from core_infra.medium._writer import AtomicWriter, writer_in_memory

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from _typeshed import ReadableBuffer
    from pyfakefs.fake_filesystem import FakeFilesystem

    from core_infra.medium._errors import StrPath
    from core_infra.medium._nodes import Node

_SYSTEMS = ("linux", "macos", "windows")
_UNFINISHED = f"{RESERVED}fake"
_locks: weakref.WeakKeyDictionary[FakeFilesystem, threading.RLock] = weakref.WeakKeyDictionary()
"""One lock for each file system: pyfakefs itself is not thread-safe."""


class FakeMedium(Medium):
    """A medium on a pyfakefs file system: slow, but with the restrictions of a real system.

    With the file system of pyfakefs' ``fs`` fixture, code under test sees the same tree through
    plain ``open``, ``os`` and ``pathlib``. Full disks (``set_disk_usage``), files without
    permission and names that differ only in case behave as on the simulated system. Other programs
    and libraries written in C do not see the tree.

    ``/a`` and ``a`` are the same path, and nothing is above the root. Links are followed as on
    Linux. Several threads may use media of one file system at the same time; code under test that
    uses ``open`` at that time is not protected, as with pyfakefs alone.

    Args:
        filesystem: the file system; by default a new, empty one.
        system: the system that a new file system simulates.

    Attributes:
        filesystem: the file system.

    Raises:
        InvalidError: there is no such system, or this is not a file system of pyfakefs.
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
            if system not in _SYSTEMS:
                raise InvalidError(
                    f"cannot simulate the system {system!r}",
                    why=f"it must be one of {', '.join(_SYSTEMS)}",
                )
            filesystem = fakes.fake_filesystem.FakeFilesystem()
            filesystem.os = getattr(fakes.fake_filesystem.OSType, system.upper())
        check_methods("filesystem", filesystem, "a FakeFilesystem of pyfakefs", "create_symlink")
        self.filesystem: FakeFilesystem = filesystem
        self._lock = _locks.setdefault(filesystem, threading.RLock())
        self._open = fakes.fake_open.FakeFileOpen(filesystem)
        # Only these functions: the fake os passes what it does not know to the real one.
        fake = fakes.fake_os.FakeOsModule(filesystem)
        self._lstat, self._listdir, self._readlink = fake.lstat, fake.listdir, fake.readlink
        self._mkdir, self._rmdir, self._remove = fake.mkdir, fake.rmdir, fake.remove
        self._replace, self._chmod = fake.replace, fake.chmod
        self._nodes = _Entries(filesystem, fake.lstat, fake.readlink)
        self._real = self._nodes.real

    def __repr__(self) -> str:
        return f"FakeMedium({self.filesystem!r})"

    def __copy__(self) -> FakeMedium:
        """Return a second medium of the same file system."""
        return FakeMedium(self.filesystem)

    def __reduce__(self) -> NoReturn:
        """Raise InvalidError: it cannot be pickled, nor deeply copied."""
        raise InvalidError(
            "cannot pickle a FakeMedium",
            why="code that uses open() finds its file system only in this process",
            todo="copy() its tree into a MemoryMedium, which can be pickled.",
        )

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        with self._doing("read", path):
            key = walk(self._nodes, rooted(path))
            if isinstance(self._nodes[key], Dir):
                raise IsADirectoryError(errno.EISDIR, "")
            with self._open(self._real(key), "rb") as file:
                return cast("bytes", file.read())

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        check_data(data)
        check_mode(mode)
        with self._doing("write", path):
            self._write(self._place(path), data, mode)

    def open(self, path: StrPath) -> BinaryIO:
        """Open the current version of a file for reading."""
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self.read_bytes(path))))

    def create(self, path: StrPath, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        check_mode(mode)
        with self._doing("write", path):
            key = self._place(path)

        def commit(data: bytes) -> None:
            with self._doing("write", path):
                self._write(self._place(key), data, mode)

        return writer_in_memory(commit)

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for appending."""
        with self._doing("append to", path):
            file = self._open(self._real(self._place(path)), "ab")
        return io.BufferedWriter(_Appender(file, lambda: self._doing("append to", path)))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe the file or directory at a path."""
        key = rooted(path)
        with self._doing("stat", path):
            info = self._lstat(self._real(walk(self._nodes, key)))
        is_dir = stat.S_ISDIR(info.st_mode)
        size = 0 if is_dir else info.st_size
        return FileInfo(name_of(key), size, info.st_mode & 0o777, info.st_mtime, is_dir)

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        with self._doing("list", path):
            key = walk(self._nodes, rooted(path))
            if not isinstance(self._nodes[key], Dir):
                raise NotADirectoryError(errno.ENOTDIR, "")
            names = self._listdir(self._real(key))
        return sorted(name for name in names if not name.startswith(RESERVED))

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        with self._doing("make the directory", path):
            self._make_dirs(rooted(path))

    def identity(self, path: StrPath) -> object:
        """Return the device and inode number in the simulated file system."""
        with self._doing("follow", path):
            info = self._lstat(self._real(walk(self._nodes, rooted(path))))
        return info.st_dev, info.st_ino

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory atomically; of a link, the link."""
        source = not_root(rooted(old), "rename", old)
        target = not_root(rooted(new), "rename to", new)
        with self._doing("rename", old):
            given, source = source, self._entry(source)
            is_dir = isinstance(self._nodes[source], Dir)
        if given == target:
            return
        with self._doing(f"rename {old!r} to", new):
            if is_dir and target.startswith(source + "/"):
                raise OSError(errno.EINVAL, "")
            target = join(self._make_dirs(parent(target)), name_of(target))
            if is_dir and target.startswith(source + "/"):  # by a link
                raise OSError(errno.EINVAL, "")
            there = self._nodes.get(target)
            if isinstance(there, Dir) or (is_dir and there is not None):
                raise FileExistsError(errno.EEXIST, "")
            if source != target:
                self._move(source, target)

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory; of a link, the link."""
        key = not_root(rooted(path), "delete", path)
        with self._doing("delete", path):
            key = self._entry(key)
            remove = self._rmdir if isinstance(self._nodes[key], Dir) else self._remove
            remove(self._real(key))

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree; of a link, only the link."""
        key = not_root(rooted(path), "delete", path)
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._doing("delete", path), gone:
            self._delete_tree(self._entry(key))

    @contextlib.contextmanager
    def _doing(self, action: str, path: StrPath) -> Iterator[None]:
        with self._lock, map_os_errors(action, path, path):
            yield

    def _entry(self, key: str) -> str:
        """Return the key of an entry; of a link, that of the link itself."""
        key = join(walk(self._nodes, parent(key)), name_of(key))
        if key not in self._nodes:
            walk(self._nodes, key)  # raises the reason
        return key

    def _place(self, path: StrPath) -> str:
        """Return the key of a file to write, links followed; make its directory."""
        return place(lambda: self._nodes, rooted(path), self._make_dirs)

    def _make_dirs(self, key: str) -> str:
        key = walk(self._nodes, key, lambda missing: self._mkdir(self._real(missing)))
        if not isinstance(self._nodes[key], Dir):
            raise NotADirectoryError(errno.ENOTDIR, "")
        return key

    def _write(self, key: str, data: bytes, mode: int | None) -> None:
        real, unfinished = self._real(key), self._real(join(parent(key), _UNFINISHED))
        if mode is None:
            with contextlib.suppress(FileNotFoundError):
                mode = self._lstat(real).st_mode
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

    def _move(self, source: str, target: str) -> None:
        """Rename; pyfakefs itself refuses to move a dangling link, or to replace a link."""
        there = self._nodes.get(target)
        if isinstance(there, Link):
            self._remove(self._real(target))
        node = self._nodes[source]
        if isinstance(node, Link):
            text = self._readlink(self._real(source))
            self._remove(self._real(source))
            if there is not None and not isinstance(there, Link):
                self._remove(self._real(target))
            self.filesystem.create_symlink(self._real(target), text)
        else:
            self._replace(self._real(source), self._real(target))

    def _delete_tree(self, key: str) -> None:
        keys = [key]
        for outer in keys:
            if isinstance(self._nodes[outer], Dir):
                keys += [join(outer, name) for name in self._listdir(self._real(outer))]
        for inner in reversed(keys):
            remove = self._rmdir if isinstance(self._nodes[inner], Dir) else self._remove
            remove(self._real(inner))


class _Entries(Mapping[str, "Node"]):
    """The entries of a file system as :mod:`core_infra.medium._links` walks them."""

    _DIR = Dir(ROOT, object())
    _FILE = ("", 0, 0, 0.0, False), b""

    def __init__(
        self,
        filesystem: FakeFilesystem,
        lstat: Callable[[str], Any],
        readlink: Callable[[str], str],
    ) -> None:
        self._filesystem = filesystem
        self._lstat = lstat
        self._readlink = readlink

    def real(self, key: str) -> str:
        """The path of an entry for pyfakefs."""
        root = self._filesystem.root_dir_name
        return root if key == ROOT else root + key

    def __getitem__(self, key: str) -> Node:
        real = self.real(key)
        try:
            mode = self._lstat(real).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None
        if stat.S_ISDIR(mode):
            return self._DIR
        if not stat.S_ISLNK(mode):
            return self._FILE
        text = self._readlink(real)
        if self._filesystem.is_windows_fs:
            text = text.replace("\\", "/")
        if text.startswith("/"):  # the same as a relative link to the root
            text = posixpath.relpath("/", f"/{parent(key)}") + text
        return Link(text)

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class _Appender(io.RawIOBase):
    def __init__(self, file: BinaryIO, doing: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self._doing = doing

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        with self._doing():
            count = self._file.write(data)
            self._file.flush()
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            # Closing changes the table of open files. A write that failed has raised its error.
            with contextlib.suppress(CoreInfraError), self._doing():
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
