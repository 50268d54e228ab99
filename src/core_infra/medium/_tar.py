"""Whole trees as tar archives."""

from __future__ import annotations

import errno
import lzma
import posixpath
import zlib
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import CoreInfraError, InvalidError, WrongStateError
from core_infra.medium._arguments import check_medium, check_methods
from core_infra.medium._copy import stream, tree
from core_infra.medium._errors import path_error, shown

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
        InvalidPathError: a link leads back to a directory that contains it, or it contains a
            device, a pipe or a socket. The archive is incomplete then.
        WrongStateError: a file became smaller while it was read.
        CoreInfraError: as listing and reading do.
    """
    check_medium("medium", medium)
    check_methods("archive", archive, "a binary file that is open for writing", "write")
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
                    _add(tar, member, file)


def _add(tar: tarfile.TarFile, member: tarfile.TarInfo, file: BinaryIO) -> None:
    try:
        tar.addfile(member, file)
    except OSError as error:
        if isinstance(error, CoreInfraError) or error.errno is not None:
            raise
        raise WrongStateError(  # tarfile's "unexpected end of data"
            f"cannot pack {shown(member.name)}",
            why="it became smaller while it was read",
            needed=f"{member.size} bytes",
            found="fewer",
        ) from error


def unpack(archive: BinaryIO, medium: Medium, path: StrPath) -> None:
    """Write the files and directories of a tar archive, compressed or not, into a directory.

    Args:
        archive: the archive; it stays open.
        medium: where to write.
        path: the directory.

    Raises:
        InvalidError: it is not a tar archive, or a member is neither a file nor a directory, or its
            name leads out of *path*, or it is a file with the name of a directory (``.``, ``a/``).
            The members before it have been written.
        CoreInfraError: as writing does.
    """
    check_medium("medium", medium)
    check_methods("archive", archive, "a binary file that is open for reading", "read")
    import tarfile  # noqa: PLC0415 - see above

    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            for member in tar:
                _extract(tar, member, medium, path)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InvalidError("cannot unpack the archive", why=str(error)) from error
    except OSError as error:
        if isinstance(error, CoreInfraError) or error.errno is not None:
            raise
        raise InvalidError("cannot unpack the archive", why=str(error)) from error


def _name_of(member: tarfile.TarInfo) -> str:
    """The path of a member in the directory; ``.`` for the directory itself."""
    cleaned = posixpath.normpath(member.name)
    if cleaned.startswith(("/", "../")) or cleaned == "..":
        raise _refused(member, "its name leads out of the directory")
    last = posixpath.basename(member.name)
    if not member.isdir() and (cleaned == "." or last in {"", ".", ".."}):
        raise _refused(member, "it is a file, and its name is that of a directory")
    return cleaned


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, medium: Medium, path: StrPath) -> None:
    target = posixpath.join(path, _name_of(member))
    if member.isdir():
        medium.ensure_dir(target)
    elif member.isreg() and (source := tar.extractfile(member)):
        with source, medium.create(target, mode=member.mode & 0o777) as file:
            stream(source, file)
    else:
        raise _refused(member, "it is neither a file nor a directory")


def _refused(member: tarfile.TarInfo, why: str) -> InvalidError:
    return InvalidError(f"cannot unpack {shown(member.name)}", why=why, name=member.name)
