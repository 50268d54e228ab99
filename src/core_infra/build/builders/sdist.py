"""Source distributions without the marks of their making."""

from __future__ import annotations

import gzip
import tarfile
from typing import TYPE_CHECKING

from core_infra.build.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

_LEVEL = 9


def make_reproducible(path: Path, epoch: int) -> None:
    """Pack a ``.tar.gz`` anew: members sorted, of one time and owner, with modes 644 and 755.

    Not every backend of Python takes the time from SOURCE_DATE_EPOCH and leaves out the owner:
    setuptools does neither.

    Args:
        path: the file; it is replaced when the new one is complete.
        epoch: the time, in seconds since 1970.

    Raises:
        ArchiveError: it is no such archive.
        OSError: it cannot be read or written.
    """
    unfinished = path.with_name(f".{path.name}")
    try:
        with (
            tarfile.open(path) as old,
            unfinished.open("wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=epoch) as packed,
            tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as new,
        ):
            for member in sorted(old.getmembers(), key=lambda one: one.name):
                new.addfile(
                    _plain(member, epoch), old.extractfile(member) if member.isreg() else None
                )
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        unfinished.unlink(missing_ok=True)
        raise ArchiveError(f"{str(path)!r} is no source distribution", why=str(error)) from error
    unfinished.replace(path)


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    member.pax_headers = {}  # they would go before what is set here
    runs = member.isdir() or member.mode & 0o100
    return member.replace(
        mtime=epoch,
        mode=0o755 if runs else 0o644,
        uid=0,
        gid=0,
        uname="",
        gname="",
        deep=True,
    )
