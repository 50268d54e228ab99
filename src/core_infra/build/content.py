"""The digest of what is in an archive, whatever it is packed with.

No compressor gives the same bytes in all its versions, so a release has two digests of each
artifact: that of the archive, and this one. It is the SHA-256 of a list with one line for each
member, sorted by name as bytes, that people can make by hand as well::

    100755 <sha256 of the file> <name>
    120777 <sha256 of where the link leads> <name>
    040755 - <name of a directory>
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from core_infra.build.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

    from core_infra.build.members import Member
    from core_infra.medium.medium import Medium

CHUNK = 1 << 20


class Entry(NamedTuple):
    """What the digest says of one member.

    Attributes:
        name: its path in the archive.
        mode: type and permissions.
        sha256: of the file, or of a link's text; ``-`` for a directory.
        size: of the file, in bytes.
    """

    name: str
    mode: int
    sha256: str
    size: int = 0


def content_digest(entries: Iterable[Entry]) -> str:
    """The digest of all members, as 64 hexadecimal digits."""
    lines = sorted((entry.name.encode(), entry) for entry in entries)
    total = hashlib.sha256()
    for name, entry in lines:
        total.update(f"{entry.mode:06o} {entry.sha256} ".encode() + name + b"\n")
    return total.hexdigest()


@dataclass(slots=True)
class Contents:
    """What an archive is made of.

    Attributes:
        medium: where the members are.
        members: what to pack, in this order.
        epoch: the time of all of them, in seconds since 1970.
        entries: what the digest says of each that was read.
    """

    medium: Medium
    members: Iterable[Member]
    epoch: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The digest of the members that were read."""
        return content_digest(self.entries)


class MemberReader:
    """Reads a member's content once, in chunks, and knows its entry afterwards.

    Raises:
        ArchiveError: the file is shorter or longer than it was.
    """

    def __init__(self, medium: Medium, member: Member) -> None:
        self.member = member
        self._medium = medium
        self._sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        member = self.member
        if member.link:
            self._sha256.update(member.link.encode())
        if not stat.S_ISREG(member.mode):
            return
        with self._medium.open(member.path) as file:
            left = member.size
            while chunk := file.read(CHUNK):
                left -= len(chunk)
                self._sha256.update(chunk)
                yield chunk
        if left:
            raise ArchiveError(
                f"cannot archive {member.path!r}",
                why="it changed while it was read",
                path=member.path,
            )

    @property
    def entry(self) -> Entry:
        """What the digest says of the member; once it has been read."""
        is_dir = stat.S_ISDIR(self.member.mode)
        digest = "-" if is_dir else self._sha256.hexdigest()
        return Entry(self.member.name, self.member.mode, digest, self.member.size)


def hash_file(file: BinaryIO) -> str:
    """The SHA-256 of the rest of a file."""
    return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()
