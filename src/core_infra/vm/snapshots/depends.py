"""The digest of files that a prepared machine depends on."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EXECUTABLE = 0o111


def contents(paths: Iterable[str | os.PathLike[str]] | os.PathLike[str]) -> str:
    """One digest of files and of all that is in directories; what they are called does not count.

    Raises:
        NotFoundError: there is no such file or directory.
        InvalidError: it cannot be read, or is no path.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    digest = hashlib.sha256()
    for path in paths:
        try:
            for line in _lines(Path(path), follow=True):
                digest.update(line + b"\n")
        except FileNotFoundError:
            raise NotFoundError(
                f"a prepared machine depends on {os.fspath(path)!r}, which is not there",
                why=f"a relative path begins at {Path.cwd()}",
            ) from None
        except (OSError, TypeError, ValueError) as error:
            raise InvalidError(f"cannot read depends={path!r}", why=str(error)) from error
    return digest.hexdigest()


def _lines(path: Path, *, follow: bool = False) -> Iterator[bytes]:
    status = path.stat() if follow else path.lstat()
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        yield b"link " + os.fsencode(os.readlink(path))  # noqa: PTH115 - as bytes
    elif stat.S_ISDIR(mode):
        for entry in sorted(path.iterdir()):
            yield b"entry " + os.fsencode(entry.name)
            yield from _lines(entry)
        yield b"end"
    elif stat.S_ISREG(mode):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        yield f"file {content} {bool(mode & _EXECUTABLE)}".encode()
    else:
        yield f"special {stat.S_IFMT(mode):o}".encode()
