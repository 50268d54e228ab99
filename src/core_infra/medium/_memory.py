"""A file system in a dictionary."""

from __future__ import annotations

import contextlib
import errno
import io
import posixpath
import threading
from time import time
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.medium._arguments import check_data, check_methods, check_mode
from core_infra.medium._difference import Difference, difference
from core_infra.medium._errors import path_error
from core_infra.medium._links import ROOT, join, parent
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._memory_tree import FILE_MODE, MemoryTree
from core_infra.medium._nodes import Appender, Dir, data_of, info_of, new_tuple
from core_infra.medium._paths import clean, is_plain, not_root, rooted
from core_infra.medium._real_file import map_os_errors
from core_infra.medium._writer import AtomicWriter, writer_in_memory

if TYPE_CHECKING:
    import builtins

    from core_infra.medium._errors import StrPath
    from core_infra.medium._nodes import File, GrowingFile


class MemoryMedium(Medium):
    """A file system in memory, with the results and errors of the real one (umask 022).

    ``/a`` and ``a`` are the same path, and nothing is above the root. Thread-safe. Copying, deep
    copying and pickling make an independent medium with the present tree.
    """

    # Changes take the lock. Look-ups need none: a single dict access is atomic, and replacing a
    # file creates a new node, so a reader that holds the old node has a complete old version.

    def __init__(self) -> None:
        self._tree = MemoryTree()
        self._lock = threading.Lock()

    def fork(self) -> MemoryMedium:
        """Return a second medium with the same tree, in constant time; later changes are separate.

        The first change in either medium copies the table of entries, but never the content of
        files. Files that are open for writing continue to write to this medium only.
        """
        other = MemoryMedium()
        with self._lock:
            other._tree = self._tree.fork()
        return other

    def __copy__(self) -> MemoryMedium:
        """Do as :meth:`fork` does."""
        return self.fork()

    def __deepcopy__(self, memo: dict[int, object]) -> MemoryMedium:
        """Do as :meth:`fork` does."""
        return self.fork()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the present tree; another process gets a copy of its own."""
        return _of_tree, (type(self), self.fork()._tree)  # noqa: SLF001 - one of us

    def diff(self, other: MemoryMedium) -> Difference:
        """Return the differences from this tree to *other*; ``str()`` makes them readable."""
        check_methods("other", other, "a MemoryMedium", "fork")
        old, new = self.fork(), other.fork()  # these do not change
        return difference(old._tree.nodes, new._tree.nodes)  # noqa: SLF001 - one of us

    def link(self, path: StrPath, text: str) -> None:
        """Create a symbolic link and the directories above it.

        Links are followed as in a :class:`SandboxMedium`: following a link that is absolute or
        leads above the root raises OutsideSandboxError.

        Args:
            path: the link.
            text: its target, relative to the directory of the link; it need not exist.

        Raises:
            PathExistsError: the path already exists.
            InvalidPathError: the text is empty, or is not a possible path.
        """
        clean(text)
        key = not_root(rooted(path), "link", path)
        with self._lock, map_os_errors("link", path, path):
            key = join(self._tree.make_dirs(parent(key)), posixpath.basename(key))
            if key in self._tree.nodes:
                raise FileExistsError(errno.EEXIST, "")
            self._tree.put_link(key, text)

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        node = self._tree.nodes.get(path) if type(path) is str else None
        return node[1] if type(node) is tuple else bytes(data_of(self._file("read", path)))

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        if type(data) is not bytes:
            check_data(data)
            data = bytes(memoryview(data))  # bytes(5) would be five zeros
        if mode is not None:
            check_mode(mode)
        if type(path) is not str:
            path = clean(path)
        tree = self._tree
        with self._lock:
            # Most paths are already clean: a path that is a key is clean, and so is a plain name
            # after a key. These two cases need no parsing.
            nodes = tree.nodes
            old = nodes.get(path)
            if type(old) is tuple and not tree.shared:
                name, _, kept, _, _ = old[0]
                mode = kept if mode is None else mode & 0o777
                nodes[path] = (name, len(data), mode, time(), False), data
                return
            above, slash, name = path.rpartition("/")
            directory = nodes.get(above if slash else ROOT)
            if (
                old is None
                and type(directory) is Dir
                and directory.generation is tree.generation  # so the nodes are not shared either
                and above != ROOT
                and is_plain(name)
            ):
                now = directory.modified = time()
                directory.children.add(name)
                mode = FILE_MODE if mode is None else mode & 0o777
                nodes[path] = (name, len(data), mode, now, False), data
                return
            with map_os_errors("write", path, path):
                tree.write(rooted(path), data, mode)

    def open(self, path: StrPath) -> BinaryIO:
        """Open the current version of a file for reading."""
        return io.BufferedReader(
            cast("io.RawIOBase", io.BytesIO(data_of(self._file("read", path))))
        )

    def create(self, path: StrPath, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        check_mode(mode)
        with self._lock, map_os_errors("write", path, path):
            key = self._tree.place(rooted(path))
        return writer_in_memory(lambda data: self._write_key(key, path, data, mode))

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for appending."""
        with self._lock, map_os_errors("append to", path, path):
            file = self._tree.growing_file(rooted(path))
        return io.BufferedWriter(Appender(file, self._extend))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe the file or directory at a path."""
        node = self._tree.nodes.get(path) if type(path) is str else None
        if type(node) is tuple:
            return new_tuple(FileInfo, node[0])
        info = info_of(self._find("stat", path))
        # Through a link, it has the link's name.
        return info._replace(name=posixpath.basename(rooted(path))) if self._tree.linked else info

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        with self._lock:
            node = self._find("list", path)
            if not isinstance(node, Dir):
                raise path_error(errno.ENOTDIR, "list", path)
            return sorted(node.children)

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        with self._lock, map_os_errors("make the directory", path, path):
            self._tree.make_dirs(rooted(path))

    def identity(self, path: StrPath) -> object:
        """Return the path with its links followed."""
        with map_os_errors("follow", path, path):
            return self._tree.resolve(rooted(path))

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory atomically; of a link, the link."""
        source = not_root(rooted(old), "rename", old)
        target = not_root(rooted(new), "rename to", new)
        with self._lock:
            with map_os_errors("rename", old, old):
                self._tree.entry(source)
            if source != target:
                with map_os_errors(f"rename {old!r} to", new, new):
                    self._tree.move(source, target)

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory; of a link, the link."""
        key = not_root(rooted(path), "delete", path)
        with self._lock, map_os_errors("delete", path, path):
            key = self._tree.entry(key)
            node = self._tree.nodes[key]
            if isinstance(node, Dir) and node.children:
                raise OSError(errno.ENOTEMPTY, "")
            self._tree.remove(key)

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree; of a link, only the link."""
        key = not_root(rooted(path), "delete", path)
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._lock, map_os_errors("delete", path, path), gone:
            self._tree.remove(self._tree.entry(key))

    def _look(self, path: StrPath) -> FileInfo | None:
        if self._tree.linked:
            return super()._look(path)
        nodes = self._tree.nodes
        node = nodes.get(path) if type(path) is str else None
        node = cast("File | GrowingFile | Dir | None", node or nodes.get(rooted(path)))
        return None if node is None else info_of(node)

    def _find(self, action: str, path: StrPath) -> File | GrowingFile | Dir:
        with map_os_errors(action, path, path):
            return self._tree.find(rooted(path))

    def _file(self, action: str, path: StrPath) -> File | GrowingFile:
        node = self._tree.nodes.get(path) if type(path) is str else None
        if type(node) is not tuple and isinstance(node := self._find(action, path), Dir):
            raise path_error(errno.EISDIR, action, path)
        return node

    def _write_key(self, key: str, path: StrPath, data: bytes, mode: int | None) -> None:
        with self._lock, map_os_errors("write", path, path):
            self._tree.write(key, data, mode)

    def _extend(self, file: GrowingFile, data: memoryview) -> GrowingFile:
        with self._lock:
            return self._tree.extend(file, data)


def _of_tree(kind: type[MemoryMedium], tree: MemoryTree) -> MemoryMedium:
    medium = kind()
    medium._tree = tree  # noqa: SLF001 - one of us
    return medium
