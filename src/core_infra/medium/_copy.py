"""Copying between media, and going through a tree."""

from __future__ import annotations

import posixpath
from typing import IO, TYPE_CHECKING

from core_infra.medium._errors import InvalidPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.medium._medium import FileInfo, Medium
    from core_infra.medium._paths import StrPath

_PIECE = 1 << 18


def copy(source: Medium, path: StrPath, target: Medium, to: StrPath) -> None:
    """Copy a file, or a directory with all that is in it, from one medium to another or the same.

    Each file is streamed, keeps its mode, and appears whole. Links are followed: what they lead to
    is copied. Files that *to* has already are replaced; others that are in the directory *to* stay.

    Raises:
        InvalidPathError: a link leads back to a directory that it is in, so that there is no end.
        CoreInfraError: as reading *path* and writing *to* do.
    """
    for name, info in tree(source, path, "copy"):
        there = posixpath.join(to, name) if name else to
        if info.is_dir:
            target.ensure_dir(there)
        else:
            here = posixpath.join(path, name) if name else path
            with source.open(here) as reader, target.create(there, mode=info.mode) as writer:
                stream(reader, writer)


def tree(medium: Medium, path: StrPath, action: str) -> Iterator[tuple[str, FileInfo]]:
    """Go through a file, or a directory with all that is in it; links are followed.

    Args:
        medium: where it is.
        path: the file or directory.
        action: what is done with it, for an error: "cannot *action* 'the/path'".

    Yields:
        The path of each entry relative to *path*, empty for itself, and what it is: a directory
        before what is in it, and the names in it sorted.

    Raises:
        InvalidPathError: a link leads back to a directory that it is in.
    """
    return _below(medium, path, "", action, {})


def _below(
    medium: Medium, top: StrPath, name: str, action: str, above: dict[object, StrPath]
) -> Iterator[tuple[str, FileInfo]]:
    path = posixpath.join(top, name) if name else top
    info = medium.stat(path)
    if not info.is_dir:
        yield name, info
        return
    identity = medium.identity(path)
    if identity in above:
        raise InvalidPathError(
            f"cannot {action} {path!r}",
            why=f"its links lead back to {above[identity]!r}, which it is in",
            todo="Remove the link, or read the tree by load(), which keeps links.",
            path=path,
        )
    names = medium.list(path)
    yield name, info
    for inner in names:
        below = f"{name}/{inner}" if name else inner
        yield from _below(medium, top, below, action, {**above, identity: path})


def stream(reader: IO[bytes], writer: IO[bytes]) -> None:
    """Copy what is left in one open file to another (shutil's takes 10 ms to import)."""
    while data := reader.read(_PIECE):
        writer.write(data)
