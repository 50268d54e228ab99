"""Copies between media, and walks trees."""

from __future__ import annotations

import posixpath
from typing import IO, TYPE_CHECKING

from core_infra.medium._errors import InvalidPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.medium._errors import StrPath
    from core_infra.medium._medium import FileInfo, Medium

_PIECE = 1 << 18


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
        InvalidPathError: a link leads back to a directory that contains it.
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
    """Copy the rest of one open file to another (importing shutil for it takes 10 ms)."""
    while data := reader.read(_PIECE):
        writer.write(data)
