"""Follows symbolic links in a tree in memory, with the results of a sandbox on disk.

The target of a link is relative to the link's directory. A link that is absolute or leads above the
root leads out of the tree and is not followed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from core_infra.medium._errors import OUTSIDE
from core_infra.medium._nodes import Dir, Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from core_infra.medium._nodes import Node

ROOT = "."
LINKS = 40
"""The limit of links for one path, as in the kernel."""


def walk(nodes: Mapping[str, Node], path: str, make: Callable[[str], object] | None = None) -> str:
    """Resolve a path from the root, through all links.

    Args:
        nodes: the entries, by their keys.
        path: relative to the root; it may contain ``..``.
        make: makes a missing directory. The missing target of a link is never made.

    Returns:
        The key of the entry.

    Raises:
        OSError: ENOENT, ENOTDIR, ELOOP, or OUTSIDE.
    """
    return _walk(nodes, ROOT, path, make, iter(range(LINKS)))


def place(
    nodes: Callable[[], Mapping[str, Node]], key: str, make_dirs: Callable[[str], str]
) -> str:
    """Return the key of a file to write, with all links followed.

    Args:
        nodes: returns the current entries, by their keys.
        key: the path of the file.
        make_dirs: makes a directory and its parents, unless they exist; returns its key.

    Raises:
        OSError: as :func:`walk`; EISDIR if the path is a directory.
    """
    for _ in range(LINKS):
        name = name_of(key)
        if name in {"", ".", ".."}:  # only the target of a link ends like this
            walk(nodes(), key)
            raise IsADirectoryError(errno.EISDIR, "")
        above = make_dirs(parent(key))
        key = join(above, name)
        node = nodes().get(key)
        if isinstance(node, Dir):
            raise IsADirectoryError(errno.EISDIR, "")
        if not isinstance(node, Link):
            return key
        if node.text.startswith("/"):
            raise OSError(OUTSIDE, "")
        key = join(above, node.text)
    raise OSError(errno.ELOOP, "")


def _walk(
    nodes: Mapping[str, Node],
    at: str,
    path: str,
    make: Callable[[str], object] | None,
    left: Iterator[int],
) -> str:
    if path.startswith("/"):
        raise OSError(OUTSIDE, "")
    for name in path.split("/"):
        if not isinstance(nodes[at], Dir):
            raise NotADirectoryError(errno.ENOTDIR, "")
        if name == ".." and at == ROOT:
            raise OSError(OUTSIDE, "")
        if name == "..":
            at = parent(at)
        elif name not in {"", "."}:
            at = _step(nodes, join(at, name), make, left)
    return at


def _step(
    nodes: Mapping[str, Node],
    key: str,
    make: Callable[[str], object] | None,
    left: Iterator[int],
) -> str:
    node = nodes.get(key)
    if isinstance(node, Link):
        if next(left, None) is None:
            raise OSError(errno.ELOOP, "")
        try:
            return _walk(nodes, parent(key), node.text, None, left)
        except FileNotFoundError:
            if make is None:
                raise
            # The link has the name, so a directory cannot be made.
            raise NotADirectoryError(errno.ENOTDIR, "") from None
    if node is None:
        if make is None:
            raise FileNotFoundError(errno.ENOENT, "")
        make(key)
    return key


def parent(key: str) -> str:
    """The key of the directory that an entry is in."""
    return key.rpartition("/")[0] or ROOT


def name_of(key: str) -> str:
    """The last name of a key."""
    return key.rpartition("/")[2]


def join(key: str, name: str) -> str:
    """The key of an entry in a directory."""
    return name if key == ROOT else f"{key}/{name}"
