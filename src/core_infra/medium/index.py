"""The tree of a medium in memory: one dict with every entry by its whole path.

So a path that is in its cleaned form is found by one look-up, without being parsed. A fork gets
the same dict; the first change afterwards copies it, and a directory or growing file of another
era is copied before it is changed.

A *key* is a cleaned path relative to the root, which is ``.``. Failures are OSErrors with an errno
and nothing else. Nothing here is safe under threads, except looking into :attr:`Index.nodes`.
"""

from __future__ import annotations

import errno
import posixpath
import time
from typing import TYPE_CHECKING

from core_infra.medium.medium import FileInfo
from core_infra.medium.nodes import Dir, Log, info_of, renamed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from core_infra.medium.nodes import File, Node

ROOT = "."
FILE_MODE = 0o644
"""That of a new file."""


class Index:
    """A tree that forks.

    Attributes:
        nodes: every entry; whoever changes it otherwise than by the methods looks at eras.
        era: what may be changed without being copied has this one.
    """

    def __init__(self) -> None:
        self.era = object()
        self.nodes: dict[str, Node] = {ROOT: Dir(ROOT, self.era)}
        self._logs: dict[object, str] = {}  # where each growing file is, by its identity
        self._shared = False  # whether a fork has the same two dicts

    def fork(self) -> Index:
        """Make a second tree of the same nodes, in a time that does not depend on their number."""
        other = Index()
        other.nodes, other._logs = self.nodes, self._logs
        self._shared = other._shared = True
        self.era = object()
        return other

    def find(self, key: str) -> Node:
        """Return the entry; raise ENOENT or ENOTDIR if there is none."""
        node = self.nodes.get(key)
        if node is not None:
            return node
        while (above := self.nodes.get(key := parent(key))) is None:
            pass
        raise OSError(errno.ENOENT if isinstance(above, Dir) else errno.ENOTDIR, "")

    def place(self, key: str) -> File | Log | None:
        """Make the directories that a file needs, and return the file that is there."""
        old = self.nodes.get(key)
        if isinstance(old, Dir):
            raise IsADirectoryError(errno.EISDIR, "")
        self.make_dirs(parent(key))
        return old

    def write(self, key: str, data: bytes, mode: int | None) -> File:
        """Put a whole file, with its directories."""
        old = self.place(key)
        if mode is None:
            mode = FILE_MODE if old is None else info_of(old).mode
        name = posixpath.basename(key)
        file = FileInfo(name, len(data), mode & 0o777, time.time(), is_dir=False), data
        self._put(key, file)
        return file

    def log(self, key: str) -> Log:
        """Make the file at a key one that grows, and return it."""
        old = self.place(key) or self.write(key, b"", None)
        if isinstance(old, tuple):
            old = Log(info_of(old), old[1], self.era, object())
            self._put(key, old)
        return old

    def extend(self, log: Log, data: ReadableBuffer) -> Log:
        """Add to the end of a growing file, wherever it is now; return what it has become."""
        key = self._logs.get(log.identity)
        if key is not None:
            log = self._log_at(key)
        if log.era is not self.era:
            log = log.copy(self.era)
            if key is not None:
                self._own()[key] = log
        log.extend(data)
        return log

    def make_dirs(self, key: str) -> None:
        """Make a directory and those above it, unless they are there."""
        node = self.nodes.get(key)
        if node is None:
            self.make_dirs(parent(key))
            self._put(key, Dir(posixpath.basename(key), self.era))
        elif not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "")

    def move(self, source: str, target: str) -> None:
        """Move an entry with all that is in it; it replaces a file."""
        node = self.find(source)
        there = self.nodes.get(target)
        if isinstance(node, Dir) and target.startswith(source + "/"):
            raise OSError(errno.EINVAL, "")
        if isinstance(there, Dir) or (isinstance(node, Dir) and there is not None):
            raise FileExistsError(errno.EEXIST, "")
        self.make_dirs(parent(target))
        keys = self._tree(source)
        moved = [self.nodes[key] for key in keys]
        self.remove(source)
        self._put(target, renamed(node, posixpath.basename(target)))
        for key, inner in zip(keys[1:], moved[1:], strict=True):
            self._set(target + key[len(source) :], inner)

    def remove(self, key: str) -> None:
        """Remove an entry with all that is in it."""
        self._dir(parent(key)).remove(posixpath.basename(key))
        for inner in self._tree(key):
            self._forget(self._own().pop(inner))

    def _put(self, key: str, node: Node) -> None:
        self._dir(parent(key)).add(posixpath.basename(key))
        self._set(key, node)

    def _set(self, key: str, node: Node) -> None:
        nodes = self._own()
        self._forget(nodes.get(key))
        nodes[key] = node
        if isinstance(node, Log):
            self._logs[node.identity] = key

    def _forget(self, node: Node | None) -> None:
        if isinstance(node, Log):
            del self._logs[node.identity]

    def _log_at(self, key: str) -> Log:
        node = self.nodes[key]
        assert isinstance(node, Log)  # noqa: S101 - _logs says so
        return node

    def _dir(self, key: str) -> Dir:
        """A directory, to be changed."""
        node = self.nodes[key]
        assert isinstance(node, Dir)  # noqa: S101 - only parents of entries are asked for
        if node.era is not self.era:
            node = self._own()[key] = node.copy(self.era)
        return node

    def _own(self) -> dict[str, Node]:
        """The nodes, to be changed."""
        if self._shared:
            self.nodes, self._logs = self.nodes.copy(), self._logs.copy()
            self._shared = False
        return self.nodes

    def _tree(self, key: str) -> list[str]:
        """The keys of an entry and all that is in it, each after the one it is in."""
        keys = [key]
        for outer in keys:
            node = self.nodes[outer]
            if isinstance(node, Dir):
                keys += [f"{outer}/{name}" for name in node.children]
        return keys


def parent(key: str) -> str:
    """The key of the directory that an entry is in."""
    return key.rpartition("/")[0] or ROOT
