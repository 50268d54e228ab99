"""Puts tar archives on a tree: the layers of an image, packages, what a machine has changed.

An archive is one file, and the tree refers to places in it, so nothing is extracted: an owner is a
number, a path that leads out of the tree leads nowhere.
"""

from __future__ import annotations

import base64
import stat
import tarfile
from typing import TYPE_CHECKING, cast

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import Node, Piece, find_directory, make_directory, split

if TYPE_CHECKING:
    from pathlib import Path

_PAX = "SCHILY.xattr."
_LIBARCHIVE = "LIBARCHIVE.xattr."
_ATTRIBUTES = (b"user.", b"trusted.", b"security.", b"system.posix_acl_")
_OWNER, _MAJOR, _MINOR = (1 << 32) - 1, (1 << 12) - 1, (1 << 20) - 1
_LARGEST = 1 << 43  # bytes of a file
_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


class TarMerger:
    """Puts the entries of a tar archive on a tree. Subclasses decide what an entry means.

    Args:
        root: the tree.
        path: the archive, unpacked. It must stay as it is for as long as the tree's content is
            read.
        what: what the archive is, for messages: "a layer of the image".
    """

    def __init__(self, root: Node, path: Path, what: str) -> None:
        self.root = root
        self._path = path
        self._what = what
        self._size = path.stat().st_size

    def apply(self) -> None:
        """Change the tree as the archive says.

        Raises:
            InvalidError: the archive is damaged, or has an entry that cannot be.
        """
        name = ""
        try:
            with tarfile.open(self._path, "r:") as archive:
                for entry in archive:
                    name = entry.name
                    self.take(entry, self._parts(name))
                    archive.members = []  # type: ignore[attr-defined] # there may be a million
        except (tarfile.TarError, EOFError, ValueError, ArithmeticError, RecursionError) as error:
            after = f", after {name}" if name else ""
            raise InvalidError(
                f"{self._what} is not a whole tar archive", why=f"{error}{after}"
            ) from error

    def take(self, entry: tarfile.TarInfo, parts: list[bytes]) -> None:
        """Put an entry on the tree, at the path of these names; without names it is the root."""
        if parts:
            self.add(self.parent(parts), parts[-1], entry)
        elif entry.isdir():
            self.describe(self.root, entry)

    def parent(self, parts: list[bytes]) -> Node:
        """Return the directory that holds a path, made if it is missing."""
        return make_directory(self.root, parts[:-1])

    def add(self, parent: Node, name: bytes, entry: tarfile.TarInfo) -> None:
        """Put an entry into a directory: it replaces what has its name. A directory stays."""
        if entry.islnk():
            node = self._linked(entry)
        elif entry.isdir() and (old := parent.entries.get(name)) is not None and old.is_dir:
            node = old
            self.describe(node, entry)
        else:
            node = self._node(entry)
        parent.entries[name] = node

    def describe(self, node: Node, entry: tarfile.TarInfo) -> None:
        """Give a node the owner, mode, time and attributes of an entry."""
        permissions = 0o777 if entry.issym() else stat.S_IMODE(entry.mode)
        node.mode = stat.S_IFMT(node.mode) | permissions
        node.uid, node.gid = entry.uid, entry.gid
        if not (0 <= entry.uid <= _OWNER and 0 <= entry.gid <= _OWNER):
            raise self.impossible(entry, f"it belongs to {entry.uid}:{entry.gid}")
        node.mtime = int(entry.mtime // 1)
        node.xattrs = _xattrs(entry)

    def _node(self, entry: tarfile.TarInfo) -> Node:
        kind = _KINDS.get(entry.type)
        if kind is None and not entry.isreg():
            raise self.impossible(entry, f"its type is {entry.type!r}")
        node = Node(stat.S_IFREG if kind is None else kind)
        self.describe(node, entry)
        if kind is None:
            node.size = entry.size
            node.pieces = self._content(entry)
        elif kind == stat.S_IFLNK:
            node.target = _bytes(entry.linkname)
            if not node.target or b"\0" in node.target:
                raise self.impossible(entry, f"it is a symbolic link to {entry.linkname!r}")
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            node.device = (entry.devmajor, entry.devminor)
            if not (0 <= entry.devmajor <= _MAJOR and 0 <= entry.devminor <= _MINOR):
                raise self.impossible(entry, f"its device is {entry.devmajor}:{entry.devminor}")
        return node

    def _content(self, entry: tarfile.TarInfo) -> tuple[Piece, ...]:
        segments = cast("list[tuple[int, int]] | None", entry.sparse)
        if segments is None:
            segments = [(0, entry.size)]
        if not 0 <= entry.size <= _LARGEST:
            raise self.impossible(entry, f"its size is {entry.size}")
        pieces, offset = [], entry.offset_data
        for at, size in segments:
            if at < 0 or size < 0 or at + size > entry.size or offset + size > self._size:
                raise self.impossible(entry, "its content is cut off")
            if size:
                pieces.append(Piece(at, size, self._path, offset))
            offset += size
        return tuple(sorted(pieces, key=lambda piece: piece.at))

    def _linked(self, entry: tarfile.TarInfo) -> Node:
        parts = self._parts(entry.linkname)
        parent = find_directory(self.root, parts[:-1]) if parts else None
        node = parent.entries.get(parts[-1]) if parent is not None else None
        if node is None or node.is_dir:
            why = "which is a directory" if node is not None else "which does not exist"
            raise InvalidError(
                f"{self._what} has a hard link that cannot be",
                why=f"{entry.name!r} is a link to {entry.linkname!r}, {why}",
            )
        return node

    def impossible(self, entry: tarfile.TarInfo, why: str) -> InvalidError:
        """The error of an entry that cannot be put on any tree."""
        return InvalidError(
            f"{self._what} has an entry that cannot be used", why=f"{entry.name!r}: {why}"
        )

    def _parts(self, name: str) -> list[bytes]:
        """Return the names of an entry's path: it begins at the root, and cannot leave it."""
        parts: list[bytes] = []
        for part in split(_bytes(name)):
            if part != b"..":
                parts.append(part)
            elif parts:
                parts.pop()
        if any(b"\0" in part for part in parts):
            raise InvalidError(f"{self._what} has an entry that cannot be", why=f"{name!r}")
        return parts


def _xattrs(entry: tarfile.TarInfo) -> dict[bytes, bytes]:
    found = {}
    for key, value in entry.pax_headers.items():
        if key.startswith(_LIBARCHIVE):
            padded = value + "=" * (-len(value) % 4)
            found[_bytes(key.removeprefix(_LIBARCHIVE))] = base64.b64decode(padded)
    for key, value in entry.pax_headers.items():
        if key.startswith(_PAX):
            found[_bytes(key.removeprefix(_PAX))] = _bytes(value)
    # Others, such as those of macOS, mean nothing to Linux.
    return {name: value for name, value in found.items() if name.startswith(_ATTRIBUTES)}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
