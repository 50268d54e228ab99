"""What a medium in memory is made of.

Forks share nodes. A :data:`File` never changes, so it may be anybody's; directories and growing
files belong to one *era*, the time between two forks of one medium, and are copied before a change
in a later one.
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
"""One version of a file, written as a whole: what FileInfo has, and the content.

Bare tuples, because nothing is made faster, nor ignored sooner by the garbage collector.
"""


new_tuple = tuple.__new__
"""What ``FileInfo._make`` calls in the end, in half the time."""


class Log:
    """A file that has been opened to append to.

    Attributes:
        era: who may change it.
        identity: what it shares with its copies in other eras.
    """

    __slots__ = ("data", "era", "identity", "info")

    def __init__(self, info: FileInfo, data: ReadableBuffer, era: object, identity: object) -> None:
        self.info = info
        self.data = bytearray(data)
        self.era = era
        self.identity = identity

    def copy(self, era: object) -> Log:
        """One that may be changed in another era."""
        return Log(self.info, self.data, era, self.identity)

    def extend(self, data: ReadableBuffer) -> None:
        """Add to its end."""
        self.data += data
        self.info = self.info._replace(size=len(self.data), modified=time.time())


class Link:
    """A symbolic link; it never changes.

    Attributes:
        text: where it points to, from the directory that it is in.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Dir:
    """A directory and the names in it.

    Attributes:
        name: its own name.
        era: who may change it.
        mode: its permission bits.
        modified: when its names changed last.
        children: the names.
    """

    __slots__ = ("children", "era", "mode", "modified", "name")

    def __init__(self, name: str, era: object) -> None:
        self.name = name
        self.era = era
        self.mode = 0o755
        self.modified = time.time()
        self.children: set[str] = set()

    @property
    def info(self) -> FileInfo:
        """What stat tells."""
        return FileInfo(self.name, 0, self.mode, self.modified, is_dir=True)

    def copy(self, era: object) -> Dir:
        """One that may be changed in another era."""
        other = Dir(self.name, era)
        other.mode, other.modified, other.children = self.mode, self.modified, self.children.copy()
        return other

    def add(self, name: str) -> None:
        """Note a new entry."""
        self.children.add(name)
        self.modified = time.time()

    def remove(self, name: str) -> None:
        """Forget an entry."""
        self.children.remove(name)
        self.modified = time.time()


Node = File | Log | Dir | Link


def info_of(node: File | Log | Dir) -> FileInfo:
    """What stat tells."""
    return new_tuple(FileInfo, node[0]) if isinstance(node, tuple) else node.info


def data_of(node: File | Log) -> bytes | bytearray:
    """A file's content."""
    return node[1] if isinstance(node, tuple) else node.data


def renamed(node: Node, name: str) -> Node:
    """The same node under another name."""
    if isinstance(node, Link):
        return node
    if isinstance(node, Dir):
        moved = node.copy(node.era)
        moved.name = name
        return moved
    info = info_of(node)._replace(name=name)
    if isinstance(node, Log):
        return Log(info, node.data, node.era, node.identity)
    return info, node[1]


class Appender(io.RawIOBase):
    """Writes at the end of a file, whatever its name has become.

    Args:
        log: the file.
        extend: adds bytes to it, and returns what it has become.
    """

    def __init__(self, log: Log, extend: Callable[[Log, memoryview], Log]) -> None:
        self._log = log
        self._extend = extend

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Take all of it."""
        with memoryview(data) as view:
            self._log = self._extend(self._log, view)
            return view.nbytes
