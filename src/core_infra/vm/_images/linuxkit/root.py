"""The root file system of a machine while it is put together of the trees of images."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra.vm._images.disk.tree import (
    Node,
    directory,
    find_directory,
    make_directory,
    split,
    text_file,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOSTS = """\
127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""
_NO_RESOLVER = "\n# no resolv.conf configured\n"
_DROPPED = (
    ".dockerenv",
    "Dockerfile",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
)
_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")


class Root:
    """A tree that images and files are put into, each over what is there."""

    def __init__(self) -> None:
        self.tree = directory()

    def put(self, tree: Node, path: str = "") -> None:
        """Put a copy of a tree at a path; the directories above it are made if missing."""
        self._over(self.make(path), _copy(tree, {}), _names(path))

    def make(self, path: str) -> Node:
        """Return the directory at a path, made with those above it if they are missing."""
        return make_directory(self.tree, _names(path))

    def add(self, path: str, node: Node) -> None:
        """Put a file at a path, in place of what is there."""
        above, name = _parted(path)
        place = make_directory(self.tree, above)
        old = place.entries.get(name)
        if node.is_dir and old is not None:
            self._join(place, [*above, name], old, node)
        else:
            place.entries[name] = node

    def add_text(self, path: str, text: str, permissions: int = 0o644) -> None:
        """Put a text file at a path."""
        self.add(path, text_file(text, permissions))

    def find(self, path: str) -> Node | None:
        """Return what is at a path, without following a link at its end."""
        if not _names(path):
            return self.tree
        above, name = _parted(path)
        place = find_directory(self.tree, above)
        return None if place is None else place.entries.get(name)

    def _over(self, place: Node, tree: Node, path: Sequence[bytes]) -> None:
        """Put the entries of a tree over those of a directory, which is at *path*."""
        _describe(place, tree)
        # Links last: what they replace is moved to where they lead, which may come with this tree.
        for name, node in sorted(tree.entries.items(), key=lambda item: item[1].is_link):
            old = place.entries.get(name)
            if old is None:
                place.entries[name] = node
            else:
                self._join(place, [*path, name], old, node)

    def _join(self, place: Node, path: Sequence[bytes], old: Node, new: Node) -> None:
        """Put a node into a directory where *old* is; *path* is that of both."""
        if new.is_dir and old.is_dir:
            self._over(old, new, path)
        elif new.is_dir and old.is_link:
            # /lib of one image is a link to usr/lib, and a directory in the other: both are one.
            self._over(make_directory(self.tree, path), new, path)
        elif new.is_link and old.is_dir and old.entries:
            place.entries[path[-1]] = new
            self._under(make_directory(self.tree, path), old)
        else:
            place.entries[path[-1]] = new

    def _under(self, place: Node, tree: Node) -> None:
        """Put the entries of a tree into a directory where they do not exist."""
        for name, node in tree.entries.items():
            old = place.entries.setdefault(name, node)
            if old is not node and old.is_dir and node.is_dir:
                self._under(old, node)


def prepare(tree: Node, resolver: str = "") -> Node:
    """Return a copy of an image's tree with the files that a machine's parts have.

    What Docker leaves in an image is dropped. Names of hosts and of name servers are the machine's
    own; *resolver* is where ``/etc/resolv.conf`` leads to.
    """
    root = Root()
    root.tree = _copy(tree, {})
    for path in _DROPPED:
        above, name = _parted(path)
        if (place := find_directory(root.tree, above)) is not None:
            place.entries.pop(name, None)
    for path in _DIRECTORIES:
        node = root.make(path)
        node.mode, node.uid, node.gid = stat.S_IFDIR | 0o755, 0, 0
    root.add_text("etc/hosts", _HOSTS)
    root.add("etc/mtab", symlink("/proc/mounts"))
    if resolver:
        root.add("etc/resolv.conf", symlink(resolver))
    else:
        root.add_text("etc/resolv.conf", _NO_RESOLVER)
    return root.tree


def symlink(target: str) -> Node:
    """Return a new symbolic link."""
    return Node(stat.S_IFLNK | 0o777, target=target.encode("utf-8", "surrogateescape"))


def _describe(place: Node, tree: Node) -> None:
    place.mode, place.uid, place.gid = tree.mode, tree.uid, tree.gid
    place.xattrs = tree.xattrs


def _copy(node: Node, copies: dict[int, Node]) -> Node:
    """Return a copy of a tree, in which files with several names are one file again."""
    if (found := copies.get(id(node))) is not None:
        return found
    made = copies[id(node)] = replace(node, entries={})
    waiting = [(node, made)]
    while waiting:
        source, target = waiting.pop()
        for name, child in source.entries.items():
            known = copies.get(id(child))
            if known is None:
                known = copies[id(child)] = replace(child, entries={})
                waiting.append((child, known))
            target.entries[name] = known
    return made


def _names(path: str) -> list[bytes]:
    return split(path.encode("utf-8", "surrogateescape"))


def _parted(path: str) -> tuple[list[bytes], bytes]:
    """Return the directory of a path, and the name in it."""
    *above, name = _names(path)
    return above, name
