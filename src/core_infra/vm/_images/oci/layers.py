"""Merges the layers of an image into one tree.

A layer is an archive of what was changed (OCI image specification, "Image Layer Filesystem
Changeset"): a file ``.wh.NAME`` in it removes NAME of the layers below, ``.wh..wh..opq`` removes
all that its directory has from below. The result is what ``umoci unpack`` extracts.

A layer is unpacked to one file, and the tree refers to places in it, so nothing is extracted: an
owner is a number, a path that leads out of the image leads nowhere.
"""

from __future__ import annotations

import base64
import stat
import tarfile
from typing import TYPE_CHECKING, cast

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import (
    Node,
    Piece,
    directory,
    find_directory,
    make_directory,
    split,
)

if TYPE_CHECKING:
    from pathlib import Path

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
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


def merge(layers: list[Path]) -> Node:
    """Return the tree that an image's layers make.

    Args:
        layers: the unpacked archives, the lowest first. They must stay as they are for as long
            as the tree's content is read.

    Raises:
        InvalidError: an archive is damaged, or has an entry that cannot be.
    """
    root = directory()
    for layer in layers:
        _Layer(root, layer).apply()
    return root


def merge_packages(root: Node, archives: list[Path]) -> None:
    """Put the files of Debian packages on a tree.

    Unlike a layer, a package with a directory where the tree has a link to one keeps the link,
    as dpkg does, and no name stands for a removal.

    Args:
        root: the tree.
        archives: the unpacked archives; they must stay as they are, as those of layers.

    Raises:
        InvalidError: an archive is damaged, or has an entry that cannot be.
    """
    for archive in archives:
        _Package(root, archive).apply()


def merge_changes(root: Node, archive: Path, *, latest: int) -> None:
    """Put files on a tree that were changed in a machine.

    Args:
        root: the tree.
        archive: their tar archive; it must stay as it is, as those of layers.
        latest: the time, in seconds since 1970, that all newer files get: equal changes then give
            equal trees.

    Raises:
        InvalidError: the archive is damaged, or has an entry that cannot be.
    """
    _Changes(root, archive, latest).apply()


class _Layer:
    """One layer that is put on a tree."""

    def __init__(self, root: Node, path: Path) -> None:
        self._root = root
        self._path = path
        self._size = path.stat().st_size
        self._own: set[tuple[int, bytes]] = set()  # names that this layer has: directory, name
        self._kept: list[Node] = []  # so that no other directory takes an id of _own

    def apply(self) -> None:
        """Change the tree as the layer says."""
        name = ""
        try:
            with tarfile.open(self._path, "r:") as archive:
                for entry in archive:
                    name = entry.name
                    self._take(entry)
                    archive.members = []  # type: ignore[attr-defined] # a layer may have a million
        except (tarfile.TarError, EOFError, ValueError, ArithmeticError, RecursionError) as error:
            after = f", after {name}" if name else ""
            raise InvalidError(
                "a layer of the image is not a whole tar archive", why=f"{error}{after}"
            ) from error

    def _take(self, entry: tarfile.TarInfo) -> None:
        parts = _parts(entry.name)
        if not parts:
            if entry.isdir():
                self._describe(self._root, entry)
            return
        name = parts[-1]
        if not name.startswith(_WHITEOUT):
            self._add(self._parent(parts), name, entry)
        elif (parent := find_directory(self._root, parts[:-1])) is not None:
            self._remove(parent, name, entry)

    def _remove(self, parent: Node, name: bytes, entry: tarfile.TarInfo) -> None:
        """Remove of the layers below what a whiteout names."""
        hidden = name.removeprefix(_WHITEOUT)
        if name == _OPAQUE:
            self._remove_lower(parent)
        elif hidden in {b"", b".", b".."}:
            raise _impossible(entry, "it removes no file")
        elif (node := parent.entries.get(hidden)) is not None:
            if (id(parent), hidden) in self._own:
                self._remove_lower(node)
            else:
                del parent.entries[hidden]

    def _add(self, parent: Node, name: bytes, entry: tarfile.TarInfo) -> None:
        if entry.islnk():
            node = self._linked(entry)
        elif entry.isdir() and (old := parent.entries.get(name)) is not None and old.is_dir:
            node = old
            self._describe(node, entry)
        else:
            node = self._node(entry)
        parent.entries[name] = node
        self._mark(parent, name)

    def _node(self, entry: tarfile.TarInfo) -> Node:
        kind = _KINDS.get(entry.type)
        if kind is None and not entry.isreg():
            raise _impossible(entry, f"its type is {entry.type!r}")
        node = Node(stat.S_IFREG if kind is None else kind)
        self._describe(node, entry)
        if kind is None:
            node.size = entry.size
            node.pieces = self._content(entry)
        elif kind == stat.S_IFLNK:
            node.target = _bytes(entry.linkname)
            if not node.target or b"\0" in node.target:
                raise _impossible(entry, f"it is a symbolic link to {entry.linkname!r}")
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            node.device = (entry.devmajor, entry.devminor)
            if not (0 <= entry.devmajor <= _MAJOR and 0 <= entry.devminor <= _MINOR):
                raise _impossible(entry, f"its device is {entry.devmajor}:{entry.devminor}")
        return node

    def _content(self, entry: tarfile.TarInfo) -> tuple[Piece, ...]:
        segments = cast("list[tuple[int, int]] | None", entry.sparse)
        if segments is None:
            segments = [(0, entry.size)]
        if not 0 <= entry.size <= _LARGEST:
            raise _impossible(entry, f"its size is {entry.size}")
        pieces, offset = [], entry.offset_data
        for at, size in segments:
            if at < 0 or size < 0 or at + size > entry.size or offset + size > self._size:
                raise _impossible(entry, "its content is cut off")
            if size:
                pieces.append(Piece(at, size, self._path, offset))
            offset += size
        return tuple(sorted(pieces, key=lambda piece: piece.at))

    def _linked(self, entry: tarfile.TarInfo) -> Node:
        parts = _parts(entry.linkname)
        parent = find_directory(self._root, parts[:-1]) if parts else None
        node = parent.entries.get(parts[-1]) if parent is not None else None
        if node is None or node.is_dir:
            why = "which is a directory" if node is not None else "which does not exist"
            raise InvalidError(
                "a layer of the image has a hard link that cannot be",
                why=f"{entry.name!r} is a link to {entry.linkname!r}, {why}",
            )
        return node

    def _describe(self, node: Node, entry: tarfile.TarInfo) -> None:
        """Give a node the owner, mode, time and attributes of an entry."""
        permissions = 0o777 if entry.issym() else stat.S_IMODE(entry.mode)
        node.mode = stat.S_IFMT(node.mode) | permissions
        node.uid, node.gid = entry.uid, entry.gid
        if not (0 <= entry.uid <= _OWNER and 0 <= entry.gid <= _OWNER):
            raise _impossible(entry, f"it belongs to {entry.uid}:{entry.gid}")
        node.mtime = int(entry.mtime // 1)
        node.xattrs = _xattrs(entry)

    def _mark(self, parent: Node, name: bytes) -> None:
        self._own.add((id(parent), name))
        self._kept.append(parent)

    def _remove_lower(self, node: Node) -> None:
        """Remove what a directory has from the layers below, at any depth."""
        waiting = [node]
        while waiting:
            place = waiting.pop()
            for name, child in list(place.entries.items()):
                if (id(place), name) not in self._own:
                    del place.entries[name]
                elif child.is_dir:
                    waiting.append(child)

    def _parent(self, parts: list[bytes]) -> Node:
        """Return the directory of a path, made with those above it if they are missing."""
        return make_directory(self._root, parts[:-1], self._mark)


class _Package(_Layer):
    """The files of one package that are put on a tree."""

    def _take(self, entry: tarfile.TarInfo) -> None:
        parts = _parts(entry.name)
        if not parts:
            self._describe(self._root, entry)
        elif not (entry.isdir() and self._links_to_directory(parts)):
            self._add(self._parent(parts), parts[-1], entry)

    def _links_to_directory(self, parts: list[bytes]) -> bool:
        parent = find_directory(self._root, parts[:-1])
        found = None if parent is None else parent.entries.get(parts[-1])
        return found is not None and found.is_link and find_directory(self._root, parts) is not None


class _Changes(_Layer):
    """Files that a machine has changed, which are put on a tree."""

    def __init__(self, root: Node, path: Path, latest: int) -> None:
        super().__init__(root, path)
        self._latest = latest

    def _take(self, entry: tarfile.TarInfo) -> None:
        parts = _parts(entry.name)
        if parts:
            self._add(self._parent(parts), parts[-1], entry)
        else:
            self._describe(self._root, entry)

    def _describe(self, node: Node, entry: tarfile.TarInfo) -> None:
        super()._describe(node, entry)
        node.mtime = min(node.mtime, self._latest)


def _impossible(entry: tarfile.TarInfo, why: str) -> InvalidError:
    return InvalidError(
        "a layer of the image has an entry that cannot be used", why=f"{entry.name!r}: {why}"
    )


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


def _parts(name: str) -> list[bytes]:
    """Return the parts of an entry's path: it begins at the root, and cannot leave it."""
    parts: list[bytes] = []
    for part in split(_bytes(name)):
        if part != b"..":
            parts.append(part)
        elif parts:
            parts.pop()
    if any(b"\0" in part for part in parts):
        raise InvalidError("a layer of the image has an entry that cannot be", why=f"{name!r}")
    return parts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
