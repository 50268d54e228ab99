"""A file system in a dictionary."""

from __future__ import annotations

import errno
import io
import posixpath
import threading
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.medium.errors import path_error
from core_infra.medium.medium import Medium
from core_infra.medium.nodes import Appender, Dir, File
from core_infra.medium.paths import above_root, clean, is_plain, not_root
from core_infra.medium.writer import AtomicWriter

if TYPE_CHECKING:
    import builtins

    from core_infra.medium.medium import FileInfo

_ROOT = "."
_FILE_MODE = 0o644


class MemoryMedium(Medium):
    """A file system in memory, with the answers and errors of the real one (umask 022, no links).

    ``/a`` and ``a`` are the same path, and nothing is above the root. Safe under threads.
    """

    # One dict has every entry by its cleaned path, so that a path which is in that form already is
    # found by one look-up, without being parsed. Changes take the lock. Look-ups need none: a
    # single dict access is atomic, and a file that is replaced gets a new node, so that whoever
    # holds the old one has a whole old version.

    def __init__(self) -> None:
        self._nodes: dict[str, File | Dir] = {_ROOT: Dir(_ROOT)}
        self._lock = threading.Lock()

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content."""
        return bytes(self._file("read", path).data)

    def write_bytes(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        data = bytes(data)
        with self._lock:
            old = self._nodes.get(path)
            if isinstance(old, File):
                self._nodes[path] = File(old.info.name, data, old.info.mode, mode)
                return
            above, _, name = path.rpartition("/")
            directory = None if above == _ROOT else self._nodes.get(above)
            # The form of most paths: a known directory and a plain name need no cleaning.
            if old is None and isinstance(directory, Dir) and is_plain(name):
                directory.add(name)
                self._nodes[path] = File(name, data, _FILE_MODE, mode)
            else:
                self._put("write", path, data, mode)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; it reads the version of this moment."""
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self._file("read", path).data)))

    def create(self, path: str, *, mode: int | None = None) -> AtomicWriter:
        """Write a whole file piece by piece."""
        with self._lock:
            self._place("write", path)
        buffer = io.BytesIO()
        # A BufferedWriter asks of its raw file nothing that BytesIO lacks.
        raw = cast("io.RawIOBase", buffer)
        return AtomicWriter(
            raw, lambda: self.write_bytes(path, buffer.getvalue(), mode=mode), lambda: None
        )

    def append(self, path: str) -> BinaryIO:
        """Open a file for writing at its end."""
        with self._lock:
            _, file, _ = self._place("append to", path)
            if file is None:
                file = self._put("append to", path, b"", None)
        return io.BufferedWriter(Appender(file, self._lock))

    def stat(self, path: str) -> FileInfo:
        """Describe what is at a path."""
        node = self._nodes.get(path)
        return node.info if node is not None else self._find("stat", path).info

    def list(self, path: str) -> builtins.list[str]:
        """Return the names in a directory."""
        with self._lock:
            node = self._find("list", path)
            if isinstance(node, File):
                raise path_error(errno.ENOTDIR, "list", path)
            return sorted(node.children)

    def ensure_dir(self, path: str) -> None:
        """Make a directory, unless it is there."""
        with self._lock:
            self._make_dirs("make the directory", path, _key(path))

    def rename(self, old: str, new: str) -> None:
        """Move a file or directory in one step."""
        source = not_root(_key(old), "rename", old)
        target = not_root(_key(new), "rename to", new)
        action = f"rename {old!r} to"
        with self._lock:
            node = self._find("rename", old)
            if source == target:
                return
            is_dir = isinstance(node, Dir)
            there = self._nodes.get(target)
            if is_dir and target.startswith(source + "/"):
                raise path_error(errno.EINVAL, action, new)
            if isinstance(there, Dir) or (is_dir and there is not None):
                raise path_error(errno.EEXIST, action, new)
            parent = self._make_dirs(action, new, _parent(target))
            self._unlink(source)
            for key in self._tree(source):
                self._nodes[target + key[len(source) :]] = self._nodes.pop(key)
            node.rename(posixpath.basename(target))
            parent.add(posixpath.basename(target))

    def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        key = not_root(_key(path), "delete", path)
        with self._lock:
            node = self._find("delete", path)
            if isinstance(node, Dir) and node.children:
                raise path_error(errno.ENOTEMPTY, "delete", path)
            self._unlink(key)
            del self._nodes[key]

    def delete_all(self, path: str) -> None:
        """Delete whatever is at a path."""
        key = not_root(_key(path), "delete", path)
        with self._lock:
            if key in self._nodes:
                self._unlink(key)
                for inner in self._tree(key):
                    del self._nodes[inner]

    def _look(self, path: str) -> FileInfo | None:
        node = self._nodes.get(path) or self._nodes.get(_key(path))
        return None if node is None else node.info

    def _find(self, action: str, path: str) -> File | Dir:
        key = _key(path)
        node = self._nodes.get(key)
        if node is not None:
            return node
        while (above := self._nodes.get(key := _parent(key))) is None:
            pass
        code = errno.ENOTDIR if isinstance(above, File) else errno.ENOENT
        raise path_error(code, action, path)

    def _file(self, action: str, path: str) -> File:
        node = self._nodes.get(path) or self._find(action, path)
        if isinstance(node, Dir):
            raise path_error(errno.EISDIR, action, path)
        return node

    def _place(self, action: str, path: str) -> tuple[str, File | None, Dir]:
        """Where a file at *path* goes: its key, the file that is there, its directory (made)."""
        key = _key(path)
        old = self._nodes.get(key)
        if isinstance(old, Dir):
            raise path_error(errno.EISDIR, action, path)
        return key, old, self._make_dirs(action, path, _parent(key))

    def _put(self, action: str, path: str, data: bytes, mode: int | None) -> File:
        key, old, directory = self._place(action, path)
        name = posixpath.basename(key)
        if old is None:
            directory.add(name)
        file = File(name, data, _FILE_MODE if old is None else old.info.mode, mode)
        self._nodes[key] = file
        return file

    def _make_dirs(self, action: str, path: str, key: str) -> Dir:
        node = self._nodes.get(key)
        if node is None:
            parent = self._make_dirs(action, path, _parent(key))
            name = posixpath.basename(key)
            node = self._nodes[key] = Dir(name)
            parent.add(name)
        if isinstance(node, File):
            raise path_error(errno.ENOTDIR, action, path)
        return node

    def _tree(self, key: str) -> builtins.list[str]:
        """The keys of an entry and all that is in it."""
        keys = [key]
        for outer in keys:
            node = self._nodes[outer]
            if isinstance(node, Dir):
                keys += [f"{outer}/{name}" for name in node.children]
        return keys

    def _unlink(self, key: str) -> None:
        parent = self._nodes[_parent(key)]
        assert isinstance(parent, Dir)  # noqa: S101 - an entry's parent is a directory
        parent.remove(posixpath.basename(key))


def _key(path: str) -> str:
    key = clean(path).lstrip("/") or _ROOT
    if key == ".." or key.startswith("../"):
        raise above_root(path)
    return key


def _parent(key: str) -> str:
    return key.rpartition("/")[0] or _ROOT
