"""Copies between media, and walks trees."""

from __future__ import annotations

import posixpath
from typing import IO, TYPE_CHECKING

from core_infra.medium._arguments import check_medium
from core_infra.medium._errors import InvalidPathError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.medium._errors import StrPath
    from core_infra.medium._medium import FileInfo, Medium

_PIECE = 1 << 18
_USUAL = 250
"""Characters of a path that is not too long anywhere."""


def copy(source: Medium, path: StrPath, target: Medium, to: StrPath) -> None:
    """Copy a file or a directory tree from one medium to another, or within one.

    Each file is streamed, keeps its mode, and appears only when it is complete. Links are followed:
    their targets are copied. Existing files are replaced; other files in the directory *to* stay.

    Args:
        source: the medium to read from.
        path: the file or directory to copy.
        target: the medium to write to.
        to: the path of the copy.

    Raises:
        InvalidPathError: a link leads back to a directory that contains it, or a path would be
            too long; nothing has been written then.
        CoreInfraError: as reading *path* and writing *to* do.
    """
    check_medium("source", source)
    check_medium("target", target)
    entries = list(tree(source, path, "copy"))  # so that what cannot be copied is found first
    _check_length(target, to, entries)
    for name, info in entries:
        there = posixpath.join(to, name) if name else to
        if info.is_dir:
            target.ensure_dir(there)
        else:
            here = posixpath.join(path, name) if name else path
            with source.open(here) as reader, target.create(there, mode=info.mode) as writer:
                stream(reader, writer)


def _check_length(target: Medium, to: StrPath, entries: list[tuple[str, FileInfo]]) -> None:
    """Raise InvalidPathError if the longest path is too long for the target."""
    longest = max((name for name, _ in entries), key=len)
    if len(longest) > _USUAL:
        target.exists(posixpath.join(to, longest))


def tree(medium: Medium, path: StrPath, action: str) -> Iterator[tuple[str, FileInfo]]:
    """Walk a file or a directory tree; links are followed.

    Args:
        medium: where it is.
        path: the file or directory.
        action: the operation, for an error: "cannot *action* 'the/path'".

    Yields:
        The path of each entry relative to *path* (empty for *path* itself) and its description:
        each directory before its entries, which are sorted by name.

    Raises:
        InvalidPathError: a link leads back to a directory that contains it.
    """
    name = ""
    above: dict[object, StrPath] = {}  # the directories that the walk is in, by their identities
    levels: list[tuple[str, object, Iterator[str]]] = []  # not by recursion: trees may be deep
    while True:
        here = posixpath.join(path, name) if name else path
        info = medium.stat(here)
        if info.is_dir:
            identity = medium.identity(here)
            if identity in above:
                raise InvalidPathError(
                    f"cannot {action} {shown(here)}",
                    why=f"its links lead back to {shown(above[identity])}, which it is in",
                    todo="Remove the link, or read the tree by load(), which keeps links.",
                    path=here,
                )
            levels.append((name, identity, iter(medium.list(here))))
            above[identity] = here
        yield name, info
        while levels:
            outer, identity, names = levels[-1]
            if (inner := next(names, None)) is not None:
                name = f"{outer}/{inner}" if outer else inner
                break
            levels.pop()
            del above[identity]
        else:
            return


def stream(reader: IO[bytes], writer: IO[bytes]) -> None:
    """Copy the rest of one open file to another (importing shutil for it takes 10 ms)."""
    while data := reader.read(_PIECE):
        writer.write(data)
