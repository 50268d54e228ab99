"""What is in an archive that somebody else may have made: read once, in little memory."""

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

from core_infra.build._archives.contents import CHUNK, Entry, content_digest
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
    RuntimeError,  # zipfile's word for a member that is encrypted
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
class Packed:
    """A member of an archive as the archive tells of it.

    Attributes:
        name: its path, without a trailing slash.
        mode: type and permissions, as in ``st_mode``.
        size: of the content, in bytes.
        link: where a link leads.
        modified: its time; in zip files, the digits that are there, whatever zone they mean.
        owner: user and group, by number and name.
        sha256: of the content, or of a link's text; ``-`` for a directory.
    """

    name: str
    mode: int
    size: int = 0
    link: str = ""
    modified: str = ""
    owner: str = ""
    sha256: str = "-"

    @property
    def entry(self) -> Entry:
        """What the content's digest says of it."""
        return Entry(self.name, self.mode, self.sha256)


def is_archive(name: str) -> bool:
    """Whether a file has the name of an archive that can be read here."""
    return name.endswith(_EXTENSIONS)


def read_archive(medium: Medium, path: str) -> list[Packed]:
    """Read all of an archive: zip, or tar as it is or packed by gzip or xz.

    Raises:
        ArchiveError: it is damaged, cut off, or no archive.
        CoreInfraError: reading fails.
    """
    with _readable(path):
        return [_hashed(packed, content) for packed, content in _walk(medium, path)]


def archive_content(medium: Medium, path: str) -> str:
    """The digest of what is in an archive: see :mod:`core_infra.build._archives.contents`.

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


def _hashed(packed: Packed, content: IO[bytes] | None) -> Packed:
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


def _walk(medium: Medium, path: str) -> Iterator[tuple[Packed, IO[bytes] | None]]:
    with medium.open(path) as file:
        magic = file.read(len(_XZ))
        file.seek(0)
        if magic.startswith(_ZIP):
            yield from _walk_zip(file)
        elif magic.startswith(_GZIP):
            # Not tarfile's own way, which does not look at the checksum.
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from _walk_tar(cast("IO[bytes]", unpacked))
        elif magic.startswith(_XZ):
            with lzma.open(file) as unpacked:
                yield from _walk_tar(unpacked)
        else:
            yield from _walk_tar(file)


def _walk_tar(file: IO[bytes]) -> Iterator[tuple[Packed, IO[bytes] | None]]:
    with tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK) as tar:
        for info in tar:
            packed = Packed(
                name=info.name,
                mode=_TYPES.get(info.type, stat.S_IFREG) | stat.S_IMODE(info.mode),
                size=info.size,
                link=info.linkname,
                modified=_time(info.mtime),
                owner=f"{info.uid}:{info.gid} {info.uname}:{info.gname}".rstrip(" :"),
            )
            yield packed, tar.extractfile(info) if info.isreg() else None
    while file.read(CHUNK):  # what a checksum at the end speaks of
        pass


def _walk_zip(file: BinaryIO) -> Iterator[tuple[Packed, IO[bytes] | None]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            name = info.filename.rstrip("/")
            when = "{}-{:02}-{:02} {:02}:{:02}:{:02}".format(*info.date_time)
            if info.is_dir():
                yield Packed(name, mode or stat.S_IFDIR | 0o755, modified=when), None
                continue
            mode = mode or stat.S_IFREG | 0o644
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    yield Packed(name, mode, link=content.read().decode(), modified=when), None
                else:
                    yield Packed(name, mode, info.file_size, modified=when), content


def _time(seconds: float) -> str:
    try:
        return str(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None))
    except (OverflowError, ValueError, OSError):
        return str(seconds)
