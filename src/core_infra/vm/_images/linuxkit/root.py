"""The root file system of a machine while it is put together of the trees of images."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import Node, directory, text_file

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_LINKS = 40
"""How many symbolic links on the way to one path are followed, as by the kernel."""


class Root:
    """A tree that images and files are put into, each over what is there."""

    def __init__(self) -> None:
        self.tree = directory()

    def put(self, tree: Node, path: str = "") -> None:
        """Put a copy of a tree at a path; the directories above it are made if missing."""
        copies: dict[int, Node] = {}
        self._over(self.make(path), _copy(tree, copies))

    def make(self, path: str) -> Node:
        """Return the directory at a path, made with those above it if they are missing."""
        return self._directory(self.tree, _split(path.encode("utf-8", "surrogateescape")), path)

    def add(self, path: str, node: Node) -> None:
        """Put a file at a path, in place of what is there."""
        above, _, name = path.strip("/").rpartition("/")
        place = self.make(above)
        key = name.encode("utf-8", "surrogateescape")
        old = place.entries.get(key)
        if node.is_dir and old is not None:
            self._join(place, key, old, node)
        else:
            place.entries[key] = node

    def add_text(self, path: str, text: str, permissions: int = 0o644) -> None:
        """Put a text file at a path."""
        self.add(path, text_file(text, permissions))

    def find(self, path: str) -> Node | None:
        """Return what is at a path, without following a link at its end."""
        above, _, name = path.strip("/").rpartition("/")
        place = _look(self.tree, self.tree, _split(above.encode()))
        return None if place is None else place.entries.get(name.encode())

    def _directory(self, start: Node, parts: list[bytes], shown: str) -> Node:
        """Follow a path from the root through links; make what is missing."""
        way, waiting, links = [start], parts[::-1], 0
        while waiting:
            name = waiting.pop()
            if name == b"..":
                way = way[: max(1, len(way) - 1)]
                continue
            node = way[-1].entries.get(name)
            if node is not None and node.is_link:
                links += 1
                if links > _LINKS:
                    raise InvalidError(f"/{shown} cannot be made", why="its links make a circle")
                way = [self.tree] if node.target.startswith(b"/") else way
                waiting += _split(node.target)[::-1]
                continue
            if node is None or not node.is_dir:
                node = way[-1].entries[name] = directory()
            way.append(node)
        return way[-1]

    def _over(self, place: Node, tree: Node) -> None:
        """Put the entries of a tree over those of a directory that are there."""
        _describe(place, tree)
        # Links last: what they replace is moved to where they lead, which may come with this tree.
        for name, node in sorted(tree.entries.items(), key=lambda item: item[1].is_link):
            old = place.entries.get(name)
            if old is None:
                place.entries[name] = node
            else:
                self._join(place, name, old, node)

    def _join(self, place: Node, name: bytes, old: Node, new: Node) -> None:
        if new.is_dir and old.is_dir:
            self._over(old, new)
        elif new.is_dir and old.is_link:
            # /lib of one image is a link to usr/lib, and a directory in the other: both are one.
            self._over(self._directory_at(place, name, old), new)
        elif new.is_link and old.is_dir and old.entries:
            place.entries[name] = new
            self._under(self._directory_at(place, name, new), old)
        else:
            place.entries[name] = new

    def _directory_at(self, place: Node, name: bytes, link: Node) -> Node:
        """Return the directory that a link in a directory leads to, made if it is missing."""
        above = _path_to(self.tree, place)
        target = _split(link.target)
        parts = target if link.target.startswith(b"/") else [*above, *target]
        shown = b"/".join([*above, name]).decode(errors="backslashreplace")
        return self._directory(self.tree, parts, shown)

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
        above, _, name = path.rpartition("/")
        place = _look(root.tree, root.tree, _split(above.encode()))
        if place is not None:
            place.entries.pop(name.encode(), None)
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


def _look(root: Node, start: Node, parts: Iterable[bytes]) -> Node | None:
    """Return the directory at a path, through links; None if there is none."""
    way, waiting, links = [start], [*parts][::-1], 0
    while waiting:
        name = waiting.pop()
        if name == b"..":
            way = way[: max(1, len(way) - 1)]
            continue
        node = way[-1].entries.get(name)
        if node is None or (node.is_link and links == _LINKS):
            return None
        if node.is_link:
            links += 1
            way = [root] if node.target.startswith(b"/") else way
            waiting += _split(node.target)[::-1]
            continue
        if not node.is_dir:
            return None
        way.append(node)
    return way[-1]


def _path_to(root: Node, wanted: Node) -> list[bytes]:
    """Return the path of a directory of the tree."""
    waiting: list[tuple[Node, list[bytes]]] = [(root, [])]
    while waiting:
        node, path = waiting.pop()
        if node is wanted:
            return path
        waiting += [(child, [*path, name]) for name, child in node.entries.items() if child.is_dir]
    raise AssertionError


def _split(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in {b"", b"."}]
