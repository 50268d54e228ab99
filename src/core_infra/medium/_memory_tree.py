"""The tree of a medium in memory: one dict with every entry by its full path.

A clean path is found by one look-up, without parsing. A fork shares the dict; the first change
afterwards copies it, and a directory or growing file of another generation is copied before it is
changed.

A *key* is a clean path relative to the root, which is ``.``. If the tree has links, a key may lead
through them: the methods follow them. Failures are OSErrors with nothing but an errno. Only reading
:attr:`MemoryTree.nodes` is thread-safe.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from core_infra.medium._links import ROOT, join, name_of, parent, place, walk
from core_infra.medium._medium import FileInfo
from core_infra.medium._nodes import Dir, GrowingFile, Link, info_of, renamed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from core_infra.medium._nodes import File, Node

FILE_MODE = 0o644
"""The mode of a new file."""


class MemoryTree:
    """A tree that forks.

    Attributes:
        nodes: every entry; changing it without the methods requires checking generations.
        generation: nodes of this generation may be changed without a copy.
        shared: whether a fork shares the nodes.
        linked: whether there has ever been a link.
    """

    def __init__(self) -> None:
        self.generation = object()
        self.nodes: dict[str, Node] = {ROOT: Dir(ROOT, self.generation)}
        self.shared = False
        self.linked = False
        self._growing: dict[object, str] = {}  # the key of each growing file, by its identity

    def fork(self) -> MemoryTree:
        """Return a second tree with the same nodes, in constant time."""
        other = MemoryTree()
        other.nodes, other._growing, other.linked = self.nodes, self._growing, self.linked
        self.shared = other.shared = True
        self.generation = object()
        return other

    def find(self, key: str) -> File | GrowingFile | Dir:
        """Return an entry, links followed; raise ENOENT or ENOTDIR if it does not exist."""
        node = self.nodes.get(self.resolve(key))
        if node is not None:
            assert not isinstance(node, Link)  # noqa: S101 - walk follows links
            return node
        while (above := self.nodes.get(key := parent(key))) is None:
            pass
        raise OSError(errno.ENOENT if isinstance(above, Dir) else errno.ENOTDIR, "")

    def resolve(self, key: str) -> str:
        """Return the key with all links followed."""
        return walk(self.nodes, key) if self.linked else key

    def entry(self, key: str) -> str:
        """Return the key of an entry, of a link that of the link; raise as :meth:`find` does."""
        if self.linked:
            key = join(walk(self.nodes, parent(key)), name_of(key))
        if key not in self.nodes:
            self.find(key)
        return key

    def place(self, key: str) -> str:
        """Make the directories for a file; return its key, with all links followed."""
        # Making a directory may replace the dict.
        return place(lambda: self.nodes, key, self.make_dirs)

    def write(self, key: str, data: bytes, mode: int | None) -> None:
        """Store a whole file, and make its directories."""
        key = self.place(key)
        if mode is None:
            mode = info_of(self.find(key)).mode if key in self.nodes else FILE_MODE
        self.put_file(key, data, mode & 0o777, time.time())

    def put_file(self, key: str, data: bytes, mode: int, modified: float) -> None:
        """Store a file in an existing directory."""
        info = FileInfo(name_of(key), len(data), mode, modified, is_dir=False)
        self._put(key, (info, data))

    def put_dir(self, key: str) -> Dir:
        """Store a directory in an existing directory."""
        directory = Dir(name_of(key), self.generation)
        self._put(key, directory)
        return directory

    def put_link(self, key: str, text: str) -> None:
        """Store a link in an existing directory."""
        self.linked = True
        self._put(key, Link(text))

    def growing_file(self, key: str) -> GrowingFile:
        """Turn the file at a key into one that grows, and return it."""
        key = self.place(key)
        if key not in self.nodes:
            self.put_file(key, b"", FILE_MODE, time.time())
        old = self.nodes[key]
        if isinstance(old, tuple):
            self._put(key, GrowingFile(FileInfo(*old[0]), old[1], self.generation, object()))
        return self._growing_at(key)

    def extend(self, growing: GrowingFile, data: ReadableBuffer) -> GrowingFile:
        """Append to a growing file, even if it was renamed; return its current node."""
        key = self._growing.get(growing.identity)
        if key is not None:
            growing = self._growing_at(key)
        if growing.generation is not self.generation:
            growing = growing.copy(self.generation)
            if key is not None:
                self._own()[key] = growing
        growing.extend(data)
        return growing

    def make_dirs(self, key: str) -> str:
        """Make a directory and its parents, unless they exist; return its key."""
        if self.linked:
            self._own()  # so that put_dir changes the same dict that walk reads
            key = walk(self.nodes, key, self.put_dir)
        missing, above = [], key
        while (node := self.nodes.get(above)) is None:
            missing.append(above)
            above = parent(above)
        if not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "")
        for inner in reversed(missing):
            self.put_dir(inner)
        return key

    def move(self, source: str, target: str) -> None:
        """Move an entry and everything in it; it replaces a file."""
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
        keys = self._subtree(source)
        moved = [self.nodes[key] for key in keys]
        self.remove(source)
        self._put(target, renamed(node, name_of(target)))
        for key, inner in zip(keys[1:], moved[1:], strict=True):
            self._set(target + key[len(source) :], inner)

    def remove(self, key: str) -> None:
        """Remove an entry and everything in it."""
        self._dir(parent(key)).remove(name_of(key))
        for inner in self._subtree(key):
            self._forget(self._own().pop(inner))

    def _put(self, key: str, node: Node) -> None:
        above, _, name = key.rpartition("/")
        self._dir(above or ROOT).add(name)
        self._set(key, node)

    def _set(self, key: str, node: Node) -> None:
        nodes = self._own()
        self._forget(nodes.get(key))
        nodes[key] = node
        if isinstance(node, GrowingFile):
            self._growing[node.identity] = key

    def _forget(self, node: Node | None) -> None:
        if isinstance(node, GrowingFile):
            del self._growing[node.identity]

    def _growing_at(self, key: str) -> GrowingFile:
        node = self.nodes[key]
        assert isinstance(node, GrowingFile)  # noqa: S101 - _growing has only these
        return node

    def _dir(self, key: str) -> Dir:
        """Return a directory that may be changed."""
        node = self.nodes[key]
        assert isinstance(node, Dir)  # noqa: S101 - it is the parent of an entry
        if node.generation is not self.generation:
            node = self._own()[key] = node.copy(self.generation)
        return node

    def _own(self) -> dict[str, Node]:
        """Return the nodes for a change: a copy if they are shared."""
        if self.shared:
            self.nodes, self._growing = self.nodes.copy(), self._growing.copy()
            self.shared = False
        return self.nodes

    def _subtree(self, key: str) -> list[str]:
        """The keys of an entry and everything in it, parents first."""
        keys = [key]
        for outer in keys:
            node = self.nodes[outer]
            if isinstance(node, Dir):
                keys += [f"{outer}/{name}" for name in node.children]
        return keys
