"""A file system in a dictionary."""

from __future__ import annotations

import contextlib
import errno
import io
import posixpath
import threading
from time import time
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.medium._difference import Difference, difference
from core_infra.medium._errors import path_error
from core_infra.medium._links import ROOT, join, parent
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._memory_tree import FILE_MODE, Index
from core_infra.medium._nodes import Appender, Dir, data_of, info_of, new_tuple
from core_infra.medium._paths import clean, is_plain, not_root, rooted
from core_infra.medium._real_file import translated
from core_infra.medium._writer import AtomicWriter, writer_in_memory

if TYPE_CHECKING:
    import builtins

    from core_infra.medium._nodes import File, Log
    from core_infra.medium._paths import StrPath


class MemoryMedium(Medium):
    """A file system in memory, with the answers and errors of the real one (umask 022).

    ``/a`` and ``a`` are the same path, and nothing is above the root. Safe under threads.
    """

    # Changes take the lock. Look-ups need none: a single dict access is atomic, and a file that is
    # replaced gets a new node, so that whoever holds the old one has a whole old version.

    def __init__(self) -> None:
        self._index = Index()
        self._lock = threading.Lock()

    def fork(self) -> MemoryMedium:
        """Make a second medium with the same tree, at once; they share no change from then on.

        The first change in either copies the list of entries, but never the content of a file.
        What is open for writing goes on writing to this medium only.
        """
        other = MemoryMedium()
        with self._lock:
            other._index = self._index.fork()
        return other

    def __copy__(self) -> MemoryMedium:
        """Do as :meth:`fork` does."""
        return self.fork()

    def __deepcopy__(self, memo: dict[int, object]) -> MemoryMedium:
        """Do as :meth:`fork` does."""
        return self.fork()

    def diff(self, other: MemoryMedium) -> Difference:
        """Tell what leads from this tree to *other*; as a string, for people to read."""
        old, new = self.fork(), other.fork()  # which stand still meanwhile
        return difference(old._index.nodes, new._index.nodes)  # noqa: SLF001 - one of us

    def link(self, path: StrPath, text: str) -> None:
        """Put a symbolic link at a path, with the directories above it.

        Links are followed as in a :class:`SandboxMedium`: one that is absolute or climbs above the
        root leads out, which is an OutsideSandboxError for whoever follows it.

        Args:
            path: the link.
            text: where it points to, from the directory that it is in; need not be there.

        Raises:
            PathExistsError: something is there.
            InvalidPathError: the text is empty, or of a form that no link has.
        """
        clean(text)
        key = not_root(rooted(path), "link", path)
        with self._lock, translated("link", path, path):
            key = join(self._index.make_dirs(parent(key)), posixpath.basename(key))
            if key in self._index.nodes:
                raise FileExistsError(errno.EEXIST, "")
            self._index.put_link(key, text)

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        node = self._index.nodes.get(path) if type(path) is str else None
        return node[1] if type(node) is tuple else bytes(data_of(self._file("read", path)))

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # a number would be so many zeros
        if type(path) is not str:
            path = clean(path)
        index = self._index
        with self._lock:
            # Most paths are in their clean form: a file that is known by just this path is, and so
            # is a plain name in a directory that is known by what is before it.
            nodes = index.nodes
            old = nodes.get(path)
            if type(old) is tuple and not index.shared:
                name, _, kept, _, _ = old[0]
                mode = kept if mode is None else mode & 0o777
                nodes[path] = (name, len(data), mode, time(), False), data
                return
            above, slash, name = path.rpartition("/")
            directory = nodes.get(above if slash else ROOT)
            if (
                old is None
                and type(directory) is Dir
                and directory.era is index.era  # nor are the nodes shared, then
                and above != ROOT
                and is_plain(name)
            ):
                now = directory.modified = time()
                directory.children.add(name)
                mode = FILE_MODE if mode is None else mode & 0o777
                nodes[path] = (name, len(data), mode, now, False), data
                return
            with translated("write", path, path):
                index.write(rooted(path), data, mode)

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading; it reads the version of this moment."""
        return io.BufferedReader(
            cast("io.RawIOBase", io.BytesIO(data_of(self._file("read", path))))
        )

    def create(self, path: StrPath, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        with self._lock, translated("write", path, path):
            key = self._index.place(rooted(path))
        return writer_in_memory(lambda data: self._write_key(key, path, data, mode))

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for writing at its end."""
        with self._lock, translated("append to", path, path):
            log = self._index.log(rooted(path))
        return io.BufferedWriter(Appender(log, self._extend))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe what is at a path."""
        node = self._index.nodes.get(path) if type(path) is str else None
        if type(node) is tuple:
            return new_tuple(FileInfo, node[0])
        info = info_of(self._find("stat", path))
        # By a link, it has the link's name.
        return info._replace(name=posixpath.basename(rooted(path))) if self._index.linked else info

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        with self._lock:
            node = self._find("list", path)
            if not isinstance(node, Dir):
                raise path_error(errno.ENOTDIR, "list", path)
            return sorted(node.children)

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it is there."""
        with self._lock, translated("make the directory", path, path):
            self._index.make_dirs(rooted(path))

    def identity(self, path: StrPath) -> object:
        """Return the path with its links followed."""
        with translated("follow", path, path):
            return self._index.resolve(rooted(path))

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory in one step; of a link, the link."""
        source = not_root(rooted(old), "rename", old)
        target = not_root(rooted(new), "rename to", new)
        with self._lock:
            with translated("rename", old, old):
                self._index.entry(source)
            if source != target:
                with translated(f"rename {old!r} to", new, new):
                    self._index.move(source, target)

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory; of a link, the link."""
        key = not_root(rooted(path), "delete", path)
        with self._lock, translated("delete", path, path):
            key = self._index.entry(key)
            node = self._index.nodes[key]
            if isinstance(node, Dir) and node.children:
                raise OSError(errno.ENOTEMPTY, "")
            self._index.remove(key)

    def delete_all(self, path: StrPath) -> None:
        """Delete whatever is at a path; of a link, only the link."""
        key = not_root(rooted(path), "delete", path)
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._lock, translated("delete", path, path), gone:
            self._index.remove(self._index.entry(key))

    def _look(self, path: StrPath) -> FileInfo | None:
        if self._index.linked:
            return super()._look(path)
        nodes = self._index.nodes
        node = nodes.get(path) if type(path) is str else None
        node = cast("File | Log | Dir | None", node or nodes.get(rooted(path)))
        return None if node is None else info_of(node)

    def _find(self, action: str, path: StrPath) -> File | Log | Dir:
        with translated(action, path, path):
            return self._index.find(rooted(path))

    def _file(self, action: str, path: StrPath) -> File | Log:
        node = self._index.nodes.get(path) if type(path) is str else None
        if type(node) is not tuple and isinstance(node := self._find(action, path), Dir):
            raise path_error(errno.EISDIR, action, path)
        return node

    def _write_key(self, key: str, path: StrPath, data: bytes, mode: int | None) -> None:
        with self._lock, translated("write", path, path):
            self._index.write(key, data, mode)

    def _extend(self, log: Log, data: memoryview) -> Log:
        with self._lock:
            return self._index.extend(log, data)
