"""Whole trees as tar archives."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.medium.copy import stream

if TYPE_CHECKING:
    import tarfile

    from core_infra.medium.medium import Medium

_DIRECTORY = b"5"  # tarfile.DIRTYPE


def pack(medium: Medium, path: str, archive: BinaryIO) -> None:
    """Write what is in a directory into a tar archive, uncompressed.

    The same tree gives the same bytes: entries are sorted, and times and owners left out.

    Args:
        medium: where the directory is.
        path: the directory; names in the archive are relative to it.
        archive: where to write; it stays open.

    Raises:
        CoreInfraError: as listing and reading do.
    """
    import tarfile  # noqa: PLC0415 - few need it, and it brings four compressors

    with tarfile.open(fileobj=archive, mode="w|") as tar:
        for name in medium.list(path):
            _add(tar, medium, posixpath.join(path, name), name)


def _add(tar: tarfile.TarFile, medium: Medium, path: str, name: str) -> None:
    info = medium.stat(path)
    member = tar.tarinfo(name)
    member.mode = info.mode
    if info.is_dir:
        member.type = _DIRECTORY
        tar.addfile(member)
        for inner in medium.list(path):
            _add(tar, medium, posixpath.join(path, inner), f"{name}/{inner}")
    else:
        member.size = info.size
        with medium.open(path) as file:
            tar.addfile(member, file)


def unpack(archive: BinaryIO, medium: Medium, path: str) -> None:
    """Write the files and directories of a tar archive, compressed or not, into a directory.

    Raises:
        InvalidError: it is no tar archive, or has a member that is neither file nor directory
            or whose name leads out of *path*. What came before it is written.
        CoreInfraError: as writing does.
    """
    import tarfile  # noqa: PLC0415 - see above

    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            for member in tar:
                _extract(tar, member, medium, path)
    except tarfile.TarError as error:
        raise InvalidError("cannot unpack the archive", why=str(error)) from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, medium: Medium, path: str) -> None:
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or name == "..":
        raise _refused(member, "its name leads out of the directory")
    target = posixpath.join(path, name)
    if member.isdir():
        medium.ensure_dir(target)
    elif member.isreg() and (source := tar.extractfile(member)):
        with source, medium.create(target, mode=member.mode) as file:
            stream(source, file)
    else:
        raise _refused(member, "it is neither a file nor a directory")


def _refused(member: tarfile.TarInfo, why: str) -> InvalidError:
    return InvalidError(f"cannot unpack {member.name!r}", why=why, name=member.name)
