"""Merges the layers of an image into one tree.

A layer is an archive of what was changed (OCI image specification, "Image Layer Filesystem
Changeset"): a file ``.wh.NAME`` in it removes NAME of the layers below, ``.wh..wh..opq`` removes
all that its directory has from below. The result is what ``umoci unpack`` extracts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._images.disk.tar_merge import TarMerger
from core_infra.vm._images.disk.tree import Node, directory, find_directory, make_directory

if TYPE_CHECKING:
    import tarfile
    from pathlib import Path

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"


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


class _Layer(TarMerger):
    """One layer that is put on a tree."""

    def __init__(self, root: Node, path: Path) -> None:
        super().__init__(root, path, "a layer of the image")
        self._own: set[tuple[int, bytes]] = set()  # names that this layer has: directory, name
        self._kept: list[Node] = []  # so that no other directory takes an id of _own

    def take(self, entry: tarfile.TarInfo, parts: list[bytes]) -> None:
        """Put an entry on the tree, or remove what it names."""
        if not parts or not parts[-1].startswith(_WHITEOUT):
            super().take(entry, parts)
        elif (parent := find_directory(self.root, parts[:-1])) is not None:
            self._remove(parent, parts[-1], entry)

    def parent(self, parts: list[bytes]) -> Node:
        """Return the directory that holds a path; those on the way belong to this layer."""
        return make_directory(self.root, parts[:-1], self._mark)

    def add(self, parent: Node, name: bytes, entry: tarfile.TarInfo) -> None:
        """Put an entry into a directory; it belongs to this layer."""
        super().add(parent, name, entry)
        self._mark(parent, name)

    def _remove(self, parent: Node, name: bytes, entry: tarfile.TarInfo) -> None:
        """Remove of the layers below what a whiteout names."""
        hidden = name.removeprefix(_WHITEOUT)
        if name == _OPAQUE:
            self._remove_lower(parent)
        elif hidden in {b"", b".", b".."}:
            raise self.impossible(entry, "it removes no file")
        elif (node := parent.entries.get(hidden)) is not None:
            if (id(parent), hidden) in self._own:
                self._remove_lower(node)
            else:
                del parent.entries[hidden]

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
