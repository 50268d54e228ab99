"""A file system in a dictionary."""

from __future__ import annotations

import errno
import io
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.medium.difference import Difference, difference
from core_infra.medium.errors import path_error
from core_infra.medium.index import FILE_MODE, ROOT, Index
from core_infra.medium.medium import FileInfo, Medium
from core_infra.medium.nodes import Appender, Dir, data_of, info_of, new_tuple
from core_infra.medium.paths import is_plain, not_root, rooted
from core_infra.medium.realfile import translated
from core_infra.medium.writer import AtomicWriter, writer_in_memory

if TYPE_CHECKING:
    import builtins

    from core_infra.medium.nodes import File, Log, Node


class MemoryMedium(Medium):
    """A file system in memory, with the answers and errors of the real one (umask 022, no links).

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

    def diff(self, other: MemoryMedium) -> Difference:
        """Tell what leads from this tree to *other*; as a string, for people to read."""
        old, new = self.fork(), other.fork()  # which stand still meanwhile
        return difference(old._index.nodes, new._index.nodes)  # noqa: SLF001 - one of us

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content."""
        return bytes(data_of(self._file("read", path)))

    def write_bytes(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        if type(data) is not bytes:
            data = bytes(data)
        above, _, name = path.rpartition("/")
        with self._lock:
            nodes = self._index.nodes
            directory = nodes.get(above)
            old = nodes.get(path)
            # The form of most paths needs no cleaning: a known directory, and in it a known file
            # or a plain name. A directory of this era says that nothing is shared with a fork.
            if (
                type(directory) is Dir
                and directory.era is self._index.era
                and above != ROOT
                and (type(old) is tuple or (old is None and is_plain(name)))
            ):
                now = time.time()
                if old is None:
                    directory.children.add(name)
                    directory.modified = now
                if mode is None:
                    mode = FILE_MODE if old is None else old[0][2]
                nodes[path] = (name, len(data), mode & 0o777, now, False), data
                return
            with translated("write", path, path):
                self._index.write(rooted(path), data, mode)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; it reads the version of this moment."""
        return io.BufferedReader(
            cast("io.RawIOBase", io.BytesIO(data_of(self._file("read", path))))
        )

    def create(self, path: str, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        with self._lock, translated("write", path, path):
            self._index.place(rooted(path))
        return writer_in_memory(lambda data: self.write_bytes(path, data, mode=mode))

    def append(self, path: str) -> BinaryIO:
        """Open a file for writing at its end."""
        with self._lock, translated("append to", path, path):
            log = self._index.log(rooted(path))
        return io.BufferedWriter(Appender(log, self._extend))

    def stat(self, path: str) -> FileInfo:
        """Describe what is at a path."""
        node = self._index.nodes.get(path)
        if type(node) is tuple:
            return new_tuple(FileInfo, node[0])
        return info_of(node if node is not None else self._find("stat", path))

    def list(self, path: str) -> builtins.list[str]:
        """Return the names in a directory."""
        with self._lock:
            node = self._find("list", path)
            if not isinstance(node, Dir):
                raise path_error(errno.ENOTDIR, "list", path)
            return sorted(node.children)

    def ensure_dir(self, path: str) -> None:
        """Make a directory, unless it is there."""
        with self._lock, translated("make the directory", path, path):
            self._index.make_dirs(rooted(path))

    def rename(self, old: str, new: str) -> None:
        """Move a file or directory in one step."""
        source = not_root(rooted(old), "rename", old)
        target = not_root(rooted(new), "rename to", new)
        with self._lock:
            self._find("rename", old)
            if source != target:
                with translated(f"rename {old!r} to", new, new):
                    self._index.move(source, target)

    def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        key = not_root(rooted(path), "delete", path)
        with self._lock:
            node = self._find("delete", path)
            if isinstance(node, Dir) and node.children:
                raise path_error(errno.ENOTEMPTY, "delete", path)
            self._index.remove(key)

    def delete_all(self, path: str) -> None:
        """Delete whatever is at a path."""
        key = not_root(rooted(path), "delete", path)
        with self._lock:
            if key in self._index.nodes:
                self._index.remove(key)

    def _look(self, path: str) -> FileInfo | None:
        node = self._index.nodes.get(path) or self._index.nodes.get(rooted(path))
        return None if node is None else info_of(node)

    def _find(self, action: str, path: str) -> Node:
        with translated(action, path, path):
            return self._index.find(rooted(path))

    def _file(self, action: str, path: str) -> File | Log:
        node = self._index.nodes.get(path) or self._find(action, path)
        if isinstance(node, Dir):
            raise path_error(errno.EISDIR, action, path)
        return node

    def _extend(self, log: Log, data: memoryview) -> Log:
        with self._lock:
            return self._index.extend(log, data)
