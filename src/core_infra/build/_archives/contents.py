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
import os
import posixpath
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from core_infra.build._errors import ArchiveError, ArtifactError, ArtifactMissingError
from core_infra.build._real_path import real_path
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import BufferedReader

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium


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


BUNDLE = ".app"
"""How the name of a macOS application ends, which is a directory."""

_EXECUTABLE = 0o111


@dataclass(frozen=True, slots=True)
class Member:
    """One file, directory or link of an archive, with nothing of the host in it.

    Attributes:
        name: its path in the archive.
        path: where its content is, on the medium.
        mode: its type and permissions, as in ``st_mode``; the latter are 755 or 644, whatever
            the umask was.
        size: of a file, in bytes.
        link: of a symbolic link, where it leads.
    """

    name: str
    path: str
    mode: int
    size: int = 0
    link: str = ""


def members(medium: Medium, artifact: Artifact) -> Iterator[Member]:
    """Walk an artifact: directories before what is in them, names sorted by code points.

    Raises:
        ArchiveError: there is something in it that an archive cannot or must not have.
        CoreInfraError: as listing does.
    """
    yield from _walk(medium, posixpath.normpath(artifact.path), artifact.name, above=())


def is_tree(artifact: Artifact) -> bool:
    """Whether an artifact is a directory by its nature."""
    return artifact.tree or artifact.name.endswith(BUNDLE)


def check_artifact(medium: Medium, artifact: Artifact) -> None:
    """See that there is what an artifact says.

    Raises:
        ArtifactError: the path is empty, or a directory that should be a file or the reverse.
        ArtifactMissingError: there is nothing at the path.
    """
    if not artifact.path.strip("/"):
        raise ArtifactError("an artifact has no path", why="it is empty", path=artifact.path)
    what = f"cannot archive {artifact.path!r}"
    if not medium.exists(artifact.path):
        raise ArtifactMissingError(
            what, why="there is nothing at this path", todo="Build it first.", path=artifact.path
        )
    is_dir = medium.is_dir(artifact.path)
    if is_dir and not is_tree(artifact):
        raise ArtifactError(
            what,
            why="it is a directory where a file is expected",
            todo="If all of it is the artifact, say so: Artifact(…, tree=True).",
            path=artifact.path,
        )
    if artifact.tree and not is_dir:
        raise ArtifactError(
            what, why="it is a file where a directory is expected", path=artifact.path
        )


def _walk(medium: Medium, path: str, name: str, above: tuple[str, ...]) -> Iterator[Member]:
    _check_name(name)
    link = _link(medium, path) if above else ""
    if link:
        _check_link(name, link)
        yield Member(name, path, stat.S_IFLNK | 0o777, link=link)
        return
    info = medium.stat(path)
    if not info.is_dir:
        mode = 0o755 if info.mode & _EXECUTABLE else 0o644
        yield Member(name, path, stat.S_IFREG | mode, size=info.size)
        return
    yield Member(name, path, stat.S_IFDIR | 0o755)
    for inner in medium.list(path):
        yield from _walk(medium, f"{path}/{inner}", f"{name}/{inner}", (*above, name))


def _link(medium: Medium, path: str) -> str:
    """Where a symbolic link leads; empty for what is none."""
    if not isinstance(medium, LocalMedium):
        return ""  # other media have none, or follow them
    real = real_path(medium, path)
    mode = os.lstat(real).st_mode
    if stat.S_ISLNK(mode):
        return str(Path(real).readlink())
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ArchiveError(
            f"cannot archive {path!r}", why="it is a device, a pipe or a socket", path=path
        )
    return ""


def _check_name(name: str) -> None:
    if not name.isprintable() or "\\" in name:
        raise ArchiveError(
            f"cannot archive {name!r}",
            why="its name has characters that not every system can unpack",
            todo="Rename it.",
            path=name,
        )


def _check_link(name: str, link: str) -> None:
    root = name.partition("/")[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    if link.startswith("/") or target.partition("/")[0] != root:
        raise ArchiveError(
            f"cannot archive the link {name!r}",
            why=f"it leads out of the artifact, to {link!r}",
            todo="Put there what it leads to.",
            path=name,
        )


DEFAULT_EPOCH = 315532800
"""1980-01-01 00:00 UTC, the first time that every archive format can tell."""

VARIABLE = "SOURCE_DATE_EPOCH"
_LAST = 0o77777777777  # what the eleven octal digits of a tar header can tell


def source_date_epoch(env: Mapping[str, str] | None = None) -> int:
    """The seconds since 1970 that ``SOURCE_DATE_EPOCH`` says; without it, 1980-01-01.

    Raises:
        ArtifactError: it is not a number of seconds.
    """
    text = (os.environ if env is None else env).get(VARIABLE, "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdigit()) or int(text[:12]) > _LAST:
        raise ArtifactError(
            f"{VARIABLE} is {text!r}",
            why="it must be a number of seconds since 1970",
            todo="Try: export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)",
        )
    return int(text)
