"""The entries of a medium in memory.

Forks share entries. A :data:`File` never changes, so it can be shared freely. Directories and
growing files belong to one *generation*, the time between two forks of a medium, and are copied
before a change in a later one.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from core_infra.medium._medium import FileInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer


File = tuple[tuple[str, int, int, float, bool], bytes]
"""One version of a file that was written as a whole: the fields of FileInfo, and the content.

Plain tuples, because nothing is faster to create, or sooner ignored by the garbage collector.
"""


new_tuple = tuple.__new__
"""Does what ``FileInfo._make`` does, in half the time."""


class GrowingFile:
    """A file that has been opened for appending.

    Attributes:
        generation: the only generation that may change it.
        identity: an object that it shares with its copies in other generations.
    """

    __slots__ = ("data", "generation", "identity", "info")

    def __init__(
        self, info: FileInfo, data: ReadableBuffer, generation: object, identity: object
    ) -> None:
        self.info = info
        self.data = bytearray(data)
        self.generation = generation
        self.identity = identity

    def copy(self, generation: object) -> GrowingFile:
        """Return a copy for another generation."""
        return GrowingFile(self.info, self.data, generation, self.identity)

    def extend(self, data: ReadableBuffer) -> None:
        """Append data."""
        self.data += data
        self.info = self.info._replace(size=len(self.data), modified=time.time())


class Link:
    """A symbolic link; it never changes.

    Attributes:
        text: its target, relative to the directory of the link.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Dir:
    """A directory and the names in it.

    Attributes:
        name: its last name.
        generation: the only generation that may change it.
        mode: its permission bits.
        modified: the time of the last change of its names.
        children: the names.
    """

    __slots__ = ("children", "generation", "mode", "modified", "name")

    def __init__(self, name: str, generation: object) -> None:
        self.name = name
        self.generation = generation
        self.mode = 0o755
        self.modified = time.time()
        self.children: set[str] = set()

    @property
    def info(self) -> FileInfo:
        """The result of stat."""
        return FileInfo(self.name, 0, self.mode, self.modified, is_dir=True)

    def copy(self, generation: object) -> Dir:
        """Return a copy for another generation."""
        other = Dir(self.name, generation)
        other.mode, other.modified, other.children = self.mode, self.modified, self.children.copy()
        return other

    def add(self, name: str) -> None:
        """Add a name."""
        self.children.add(name)
        self.modified = time.time()

    def remove(self, name: str) -> None:
        """Remove a name."""
        self.children.remove(name)
        self.modified = time.time()


Node = File | GrowingFile | Dir | Link


def info_of(node: File | GrowingFile | Dir) -> FileInfo:
    """The result of stat."""
    return new_tuple(FileInfo, node[0]) if isinstance(node, tuple) else node.info


def data_of(node: File | GrowingFile) -> bytes | bytearray:
    """A file's content."""
    return node[1] if isinstance(node, tuple) else node.data


def renamed(node: Node, name: str) -> Node:
    """Return the same node with another name."""
    if isinstance(node, Link):
        return node
    if isinstance(node, Dir):
        moved = node.copy(node.generation)
        moved.name = name
        return moved
    info = info_of(node)._replace(name=name)
    if isinstance(node, GrowingFile):
        return GrowingFile(info, node.data, node.generation, node.identity)
    return info, node[1]


class Appender(io.RawIOBase):
    """Appends to a file, even if it was renamed.

    Args:
        file: the file.
        extend: appends bytes to it, and returns its current node.
    """

    def __init__(
        self, file: GrowingFile, extend: Callable[[GrowingFile, memoryview], GrowingFile]
    ) -> None:
        self._file = file
        self._extend = extend

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it."""
        with memoryview(data) as view:
            self._file = self._extend(self._file, view)
            return view.nbytes
