"""Whole trees as tar archives."""

from __future__ import annotations

import errno
import posixpath
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.medium._copy import stream, tree
from core_infra.medium._errors import path_error

if TYPE_CHECKING:
    import tarfile

    from core_infra.medium._errors import StrPath
    from core_infra.medium._medium import Medium

_DIRECTORY = b"5"  # tarfile.DIRTYPE


def pack(medium: Medium, path: StrPath, archive: BinaryIO) -> None:
    """Write the content of a directory as an uncompressed tar archive.

    The same tree gives the same bytes: entries are sorted, times and owners are omitted.

    Args:
        medium: where the directory is.
        path: the directory; names in the archive are relative to it.
        archive: where to write; it stays open.

    Raises:
        InvalidPathError: a link leads back to a directory that contains it.
        CoreInfraError: as listing and reading do.
    """
    import tarfile  # noqa: PLC0415 - rarely needed, and it imports four compressors

    with tarfile.open(fileobj=archive, mode="w|") as tar:
        entries = tree(medium, path, "pack")
        if not next(entries)[1].is_dir:
            raise path_error(errno.ENOTDIR, "pack", path)
        for name, info in entries:
            member = tar.tarinfo(name)
            member.mode = info.mode
            if info.is_dir:
                member.type = _DIRECTORY
                tar.addfile(member)
            else:
                member.size = info.size
                with medium.open(posixpath.join(path, name)) as file:
                    tar.addfile(member, file)


def unpack(archive: BinaryIO, medium: Medium, path: StrPath) -> None:
    """Write the files and directories of a tar archive, compressed or not, into a directory.

    Args:
        archive: the archive; it stays open.
        medium: where to write.
        path: the directory.

    Raises:
        InvalidError: it is not a tar archive, or a member is neither a file nor a directory, or its
            name leads out of *path*. The members before it have been written.
        CoreInfraError: as writing does.
    """
    import tarfile  # noqa: PLC0415 - see above

    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            for member in tar:
                _extract(tar, member, medium, path)
    except tarfile.TarError as error:
        raise InvalidError("cannot unpack the archive", why=str(error)) from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, medium: Medium, path: StrPath) -> None:
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
