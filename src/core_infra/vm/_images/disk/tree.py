"""A tree of files as a value: what is written to a root disk.

Nothing of it is ever a file of the host: owners, devices and capabilities are numbers here, so no
right is needed, and no path of an image can lead out of it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Piece:
    """A part of a file's content: bytes of a file of the host, or bytes.

    Attributes:
        at: where it begins in the file whose content it is.
        size: how many bytes.
        source: the host's file that has them; None if *data* has them.
        offset: where they begin in *source*.
        data: the bytes.
    """

    at: int
    size: int
    source: Path | str | None = None
    offset: int = 0
    data: bytes = b""


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


def add_file(
    root: Node, path: str, data: bytes, permissions: int = 0o644, *, mtime: int = 0
) -> None:
    """Add a file of root's, and the directories above it. No part of the path may be a link."""
    above, _, name = path.rpartition("/")
    pieces = (Piece(0, len(data), data=data),) if data else ()
    node = Node(stat.S_IFREG | permissions, mtime=mtime, size=len(data), pieces=pieces)
    add_directory(root, above).entries[name.encode()] = node


def append_file(root: Node, path: str, data: bytes) -> None:
    """Append to a file that :func:`add_file` has added, or add it."""
    above, _, name = path.rpartition("/")
    before = add_directory(root, above).entries.get(name.encode())
    old = b"" if before is None else b"".join(piece.data for piece in before.pieces)
    add_file(root, path, old + data)


def add_directory(root: Node, path: str) -> Node:
    """Return the directory at a path, made with those above it if it is missing."""
    for part in filter(None, path.encode().split(b"/")):
        root = root.entries.setdefault(part, directory())
    return root
