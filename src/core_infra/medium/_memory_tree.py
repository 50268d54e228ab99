"""The tree of a medium in memory: one dict with every entry by its whole path.

So a path that is in its cleaned form is found by one look-up, without being parsed. A fork gets
the same dict; the first change afterwards copies it, and a directory or growing file of another
era is copied before it is changed.

A *key* is a cleaned path relative to the root, which is ``.``. In a tree that has links, a key may
lead through them: the methods follow them. Failures are OSErrors with an errno
and nothing else. Nothing here is safe under threads, except looking into :attr:`Index.nodes`.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from core_infra.medium._links import ROOT, join, name_of, parent, place, walk
from core_infra.medium._medium import FileInfo
from core_infra.medium._nodes import Dir, Link, Log, info_of, renamed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from core_infra.medium._nodes import File, Node

FILE_MODE = 0o644
"""That of a new file."""


class Index:
    """A tree that forks.

    Attributes:
        nodes: every entry; whoever changes it otherwise than by the methods looks at eras.
        era: what may be changed without being copied has this one.
        shared: whether a fork has the same nodes.
        linked: whether there has ever been a link.
    """

    def __init__(self) -> None:
        self.era = object()
        self.nodes: dict[str, Node] = {ROOT: Dir(ROOT, self.era)}
        self.shared = False
        self.linked = False
        self._logs: dict[object, str] = {}  # where each growing file is, by its identity

    def fork(self) -> Index:
        """Make a second tree of the same nodes, in a time that does not depend on their number."""
        other = Index()
        other.nodes, other._logs, other.linked = self.nodes, self._logs, self.linked
        self.shared = other.shared = True
        self.era = object()
        return other

    def find(self, key: str) -> File | Log | Dir:
        """Return the entry, links followed; raise ENOENT or ENOTDIR if there is none."""
        node = self.nodes.get(self.resolve(key))
        if node is not None:
            assert not isinstance(node, Link)  # noqa: S101 - walk ends at no link
            return node
        while (above := self.nodes.get(key := parent(key))) is None:
            pass
        raise OSError(errno.ENOENT if isinstance(above, Dir) else errno.ENOTDIR, "")

    def resolve(self, key: str) -> str:
        """Give the key at the end of all links."""
        return walk(self.nodes, key) if self.linked else key

    def entry(self, key: str) -> str:
        """Give the key of what is there itself, be it a link; raise as :meth:`find` does."""
        if self.linked:
            key = join(walk(self.nodes, parent(key)), name_of(key))
        if key not in self.nodes:
            self.find(key)
        return key

    def place(self, key: str) -> str:
        """Make the directories that a file needs; give its key, at the end of all links."""
        # Making a directory may replace the dict.
        return place(lambda: self.nodes, key, self.make_dirs)

    def write(self, key: str, data: bytes, mode: int | None) -> None:
        """Put a whole file, with its directories."""
        key = self.place(key)
        if mode is None:
            mode = info_of(self.find(key)).mode if key in self.nodes else FILE_MODE
        self.put_file(key, data, mode & 0o777, time.time())

    def put_file(self, key: str, data: bytes, mode: int, modified: float) -> None:
        """Put a file into a directory that is there."""
        info = FileInfo(name_of(key), len(data), mode, modified, is_dir=False)
        self._put(key, (info, data))

    def put_dir(self, key: str) -> Dir:
        """Put a directory into one that is there."""
        directory = Dir(name_of(key), self.era)
        self._put(key, directory)
        return directory

    def put_link(self, key: str, text: str) -> None:
        """Put a link into a directory that is there."""
        self.linked = True
        self._put(key, Link(text))

    def log(self, key: str) -> Log:
        """Make the file at a key one that grows, and return it."""
        key = self.place(key)
        if key not in self.nodes:
            self.put_file(key, b"", FILE_MODE, time.time())
        old = self.nodes[key]
        if isinstance(old, tuple):
            self._put(key, Log(FileInfo(*old[0]), old[1], self.era, object()))
        return self._log_at(key)

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

    def make_dirs(self, key: str) -> str:
        """Make a directory and those above it, unless they are there; give its key."""
        if self.linked:
            self._own()  # so that put_dir changes the dict that is walked
            key = walk(self.nodes, key, self.put_dir)
        node = self.nodes.get(key)
        if node is None:
            self.make_dirs(parent(key))
            self.put_dir(key)
        elif not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "")
        return key

    def move(self, source: str, target: str) -> None:
        """Move an entry with all that is in it; it replaces a file."""
        source = self.entry(source)
        node = self.nodes[source]
        if isinstance(node, Dir) and target.startswith(source + "/"):
            raise OSError(errno.EINVAL, "")
        target = join(self.make_dirs(parent(target)), name_of(target))
        if isinstance(node, Dir) and target.startswith(source + "/"):  # by a link
            raise OSError(errno.EINVAL, "")
        there = self.nodes.get(target)
        if isinstance(there, Dir) or (isinstance(node, Dir) and there is not None):
            raise FileExistsError(errno.EEXIST, "")
        if source == target:  # by a link
            return
        keys = self._tree(source)
        moved = [self.nodes[key] for key in keys]
        self.remove(source)
        self._put(target, renamed(node, name_of(target)))
        for key, inner in zip(keys[1:], moved[1:], strict=True):
            self._set(target + key[len(source) :], inner)

    def remove(self, key: str) -> None:
        """Remove an entry with all that is in it."""
        self._dir(parent(key)).remove(name_of(key))
        for inner in self._tree(key):
            self._forget(self._own().pop(inner))

    def _put(self, key: str, node: Node) -> None:
        above, _, name = key.rpartition("/")
        self._dir(above or ROOT).add(name)
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
        if self.shared:
            self.nodes, self._logs = self.nodes.copy(), self._logs.copy()
            self.shared = False
        return self.nodes

    def _tree(self, key: str) -> list[str]:
        """The keys of an entry and all that is in it, each after the one it is in."""
        keys = [key]
        for outer in keys:
            node = self.nodes[outer]
            if isinstance(node, Dir):
                keys += [f"{outer}/{name}" for name in node.children]
        return keys
