"""A tree of files as a value: what is written to a root disk.

Nothing of it is ever a file of the host: owners, devices and capabilities are numbers here, so no
right is needed, and no path of an image can lead out of it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_LINKS = 255
"""How many symbolic links on the way to one path are followed."""


@dataclass(frozen=True)
class Piece:
    """A part of a file's content: bytes of a file of the host, or bytes.

    Attributes:
        at: where it begins in the file whose content it is.
        size: how many bytes.
        source: the host's file that has them; None if *data* has them.
        offset: where they begin in *source*.
        data: the bytes.
        facts: device, inode and mode of *source*, if it must still be the same file when it is
            read: where others may write, a name may mean another file by then.
    """

    at: int
    size: int
    source: Path | str | None = None
    offset: int = 0
    data: bytes = b""
    facts: tuple[int, int, int] | None = None


@dataclass(eq=False)
class Node:
    """A file, directory, link or device. Hard links are one node with several names.

    Attributes:
        mode: type and permissions, as in ``st_mode``.
        uid: its owner.
        gid: its group.
        mtime: seconds since 1970.
        size: of a regular file: bytes; what no piece covers reads as zeros.
        pieces: of a regular file: its content, in order.
        target: of a symbolic link.
        device: major and minor number of a device.
        xattrs: its extended attributes by their full names.
        entries: of a directory: its nodes by name.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    pieces: tuple[Piece, ...] = ()
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, Node] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def directory(permissions: int = 0o755) -> Node:
    """Return a new directory of root's."""
    return Node(stat.S_IFDIR | permissions)


def text_file(text: str, permissions: int = 0o644) -> Node:
    """Return a new file of root's with *text* in it."""
    data = text.encode()
    pieces = (Piece(0, len(data), data=data),) if data else ()
    return Node(stat.S_IFREG | permissions, size=len(data), pieces=pieces)


def walk(root: Node, path: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    """Yield every path below *root* with its node: a directory before what is in it, by name."""
    waiting = [(path, root)]
    while waiting:
        place, node = waiting.pop()
        yield place, node
        waiting += [
            (place + b"/" + name, node.entries[name]) for name in sorted(node.entries, reverse=True)
        ]


def split(path: bytes) -> list[bytes]:
    """Return the names of a path."""
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def find_directory(root: Node, names: Iterable[bytes]) -> Node | None:
    """Return the directory at a path, or None if the path does not lead to a directory.

    Symbolic links are followed as in the machine whose root this is, so none leads out of it.
    """
    return _follow(root, names, lambda _parent, _name, node: node)


def make_directory(
    root: Node, names: Iterable[bytes], passed: Callable[[Node, bytes], None] | None = None
) -> Node:
    """Return the directory at a path. What is missing, or is a file, becomes a directory.

    Args:
        root: the tree.
        names: the path. Symbolic links are followed as by :func:`find_directory`.
        passed: called with the parent and the name of each directory on the way.

    Raises:
        InvalidError: the links of the path make a circle.
    """

    def made(parent: Node, name: bytes, node: Node | None) -> Node:
        if node is None or not node.is_dir:
            node = parent.entries[name] = directory()
        if passed is not None:
            passed(parent, name)
        return node

    way = list(names)
    found = _follow(root, way, made)
    if found is None:
        path = b"/".join(way).decode(errors="backslashreplace")
        raise InvalidError(f"cannot make the directory '/{path}'", why="its links make a circle")
    return found


def _follow(
    root: Node, names: Iterable[bytes], step: Callable[[Node, bytes, Node | None], Node | None]
) -> Node | None:
    """Follow a path; *step* returns what to enter, from a directory, a name, and what is there."""
    way, waiting, links = [root], [*names][::-1], 0
    while waiting:
        name = waiting.pop()
        if name == b"..":
            del way[max(1, len(way) - 1) :]
            continue
        node = way[-1].entries.get(name)
        if node is not None and node.is_link:
            links += 1
            if links > _LINKS:
                return None
            if node.target.startswith(b"/"):
                way = [root]
            waiting += split(node.target)[::-1]
            continue
        node = step(way[-1], name, node)
        if node is None or not node.is_dir:
            return None
        way.append(node)
    return way[-1]


def add_file(
    root: Node, path: str, data: bytes, permissions: int = 0o644, *, mtime: int = 0
) -> None:
    """Add a file of root's, and the directories above it."""
    above, _, name = path.rpartition("/")
    pieces = (Piece(0, len(data), data=data),) if data else ()
    node = Node(stat.S_IFREG | permissions, mtime=mtime, size=len(data), pieces=pieces)
    make_directory(root, split(above.encode())).entries[name.encode()] = node


def append_file(root: Node, path: str, data: bytes) -> None:
    """Append to a file that :func:`add_file` has added, or add it."""
    above, _, name = path.rpartition("/")
    before = make_directory(root, split(above.encode())).entries.get(name.encode())
    old = b"" if before is None else b"".join(piece.data for piece in before.pieces)
    add_file(root, path, old + data)
