"""Reads archives of any origin: once, with little memory, and without unpacking."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from core_infra.build._archives.contents import CHUNK, ContentEntry, content_digest
from core_infra.build._errors import ArchiveError
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.medium._medium import Medium

_EXTENSIONS = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar", ".zip", ".whl")
_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,  # zipfile raises it for an encrypted member
    ValueError,
)
_TYPES = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
_GZIP, _XZ, _ZIP = b"\x1f\x8b", b"\xfd7zXZ\0", b"PK"


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A member of an archive, as described by the archive.

    Attributes:
        name: its path, without a trailing slash.
        mode: type and permissions, as in ``st_mode``.
        size: of the content, in bytes.
        link: the target of a link.
        modified: its time; in zip files without a time zone.
        owner: user and group, by number and name.
        sha256: of the content, or of a link's target; ``-`` for a directory.
    """

    name: str
    mode: int
    size: int = 0
    link: str = ""
    modified: str = ""
    owner: str = ""
    sha256: str = "-"

    @property
    def entry(self) -> ContentEntry:
        """Its line in the content digest."""
        return ContentEntry(self.name, self.mode, self.sha256)


def is_archive(name: str) -> bool:
    """Whether the file name is that of an archive in a supported format."""
    return name.endswith(_EXTENSIONS)


def read_archive(medium: Medium, path: str) -> list[ArchiveMember]:
    """Read a whole archive: zip, or tar, uncompressed or compressed by gzip or xz.

    Raises:
        ArchiveError: it is damaged, truncated, or not an archive.
        CoreInfraError: reading fails.
    """
    with _readable(path):
        return [_hashed(packed, content) for packed, content in _walk(medium, path)]


def archive_content(medium: Medium, path: str) -> str:
    """The content digest of an archive: see :mod:`core_infra.build._archives.contents`.

    Raises:
        ArchiveError: as :func:`read_archive` does.
    """
    return content_digest(packed.entry for packed in read_archive(medium, path))


def member_chunks(medium: Medium, path: str, name: str) -> Iterator[bytes]:
    """The content of one member of an archive, in chunks of 1 MiB.

    Raises:
        ArchiveError: as :func:`read_archive` does.
    """
    with _readable(path):
        for packed, content in _walk(medium, path):
            if packed.name == name and content is not None:
                while chunk := content.read(CHUNK):
                    yield chunk
                return


def _hashed(packed: ArchiveMember, content: IO[bytes] | None) -> ArchiveMember:
    digest = hashlib.sha256(packed.link.encode())
    while content is not None and (chunk := content.read(CHUNK)):
        digest.update(chunk)
    return packed if stat.S_ISDIR(packed.mode) else replace(packed, sha256=digest.hexdigest())


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        if isinstance(error, CoreInfraError):
            raise
        raise ArchiveError(
            f"cannot read the archive {path!r}", why=str(error) or "it is damaged", path=path
        ) from error


def _walk(medium: Medium, path: str) -> Iterator[tuple[ArchiveMember, IO[bytes] | None]]:
    with medium.open(path) as file:
        magic = file.read(len(_XZ))
        file.seek(0)
        if magic.startswith(_ZIP):
            yield from _walk_zip(file)
        elif magic.startswith(_GZIP):
            # tarfile's own decompression does not verify the checksum.
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from _walk_tar(cast("IO[bytes]", unpacked))
        elif magic.startswith(_XZ):
            with lzma.open(file) as unpacked:
                yield from _walk_tar(unpacked)
        else:
            yield from _walk_tar(file)


def _walk_tar(file: IO[bytes]) -> Iterator[tuple[ArchiveMember, IO[bytes] | None]]:
    with tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK) as tar:
        for info in tar:
            packed = ArchiveMember(
                name=info.name,
                mode=_TYPES.get(info.type, stat.S_IFREG) | stat.S_IMODE(info.mode),
                size=info.size,
                link=info.linkname,
                modified=_time(info.mtime),
                owner=f"{info.uid}:{info.gid} {info.uname}:{info.gname}".rstrip(" :"),
            )
            yield packed, tar.extractfile(info) if info.isreg() else None
    while file.read(CHUNK):  # up to the checksum at the end
        pass


def _walk_zip(file: BinaryIO) -> Iterator[tuple[ArchiveMember, IO[bytes] | None]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            name = info.filename.rstrip("/")
            when = "{}-{:02}-{:02} {:02}:{:02}:{:02}".format(*info.date_time)
            if info.is_dir():
                yield ArchiveMember(name, mode or stat.S_IFDIR | 0o755, modified=when), None
                continue
            mode = mode or stat.S_IFREG | 0o644
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    yield (
                        ArchiveMember(name, mode, link=content.read().decode(), modified=when),
                        None,
                    )
                else:
                    yield ArchiveMember(name, mode, info.file_size, modified=when), content


def _time(seconds: float) -> str:
    try:
        return str(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None))
    except (OverflowError, ValueError, OSError):
        return str(seconds)
