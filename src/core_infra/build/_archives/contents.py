"""The members of an archive, their time, and the digest of their content.

Compressors give different bytes in different versions, so a release has two digests of each
artifact: that of the archive file, and that of its content, which does not depend on the
compression. The latter is the SHA-256 of a list with one line for each member, sorted by name as
bytes, which can also be made by hand::

    100755 <sha256 of the file> <name>
    120777 <sha256 of the link's target> <name>
    040755 - <name of a directory>
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from core_infra.build._artifact import real_path
from core_infra.build._config.values import reserved_on_windows
from core_infra.build._errors import ArchiveError, ArtifactError, ArtifactMissingError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import BufferedReader

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium


CHUNK = 1 << 20


class ContentEntry(NamedTuple):
    """The line of the content digest for one member.

    Attributes:
        name: its path in the archive.
        mode: type and permissions.
        sha256: of the file, or of a link's target; ``-`` for a directory.
        size: of the file, in bytes.
    """

    name: str
    mode: int
    sha256: str
    size: int = 0


def content_digest(entries: Iterable[ContentEntry]) -> str:
    """The digest of all members, as 64 hexadecimal digits."""
    lines = sorted((entry.name.encode(), entry) for entry in entries)
    total = hashlib.sha256()
    for name, entry in lines:
        total.update(f"{entry.mode:06o} {entry.sha256} ".encode() + name + b"\n")
    return total.hexdigest()


@dataclass(slots=True)
class Contents:
    """The contents of an archive to be written.

    Attributes:
        medium: where the members are.
        members: the members, in their order.
        epoch: the time of all members, in seconds since 1970.
        entries: the digest lines of the members that have been read.
    """

    medium: Medium
    members: Iterable[Member]
    epoch: int
    entries: list[ContentEntry] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The content digest of the members that have been read."""
        return content_digest(self.entries)


class MemberReader:
    """Reads a member's content once, in chunks, and computes its entry.

    Raises:
        ArchiveError: the size of the file has changed.
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
    def entry(self) -> ContentEntry:
        """The digest line of the member; valid after it has been read."""
        is_dir = stat.S_ISDIR(self.member.mode)
        digest = "-" if is_dir else self._sha256.hexdigest()
        return ContentEntry(self.member.name, self.member.mode, digest, self.member.size)


def hash_file(file: BinaryIO) -> str:
    """The SHA-256 of the rest of a file."""
    return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()


BUNDLE = ".app"
"""The extension of macOS applications, which are directories."""

_EXECUTABLE = 0o111
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[ .]$')


@dataclass(frozen=True, slots=True)
class Member:
    """One file, directory or link of an archive, independent of the host.

    Attributes:
        name: its path in the archive.
        path: the path of its content on the medium.
        mode: its type and permissions, as in ``st_mode``; the permissions are 755 or 644,
            independent of the umask.
        size: the size of a file, in bytes.
        link: the target of a symbolic link.
    """

    name: str
    path: str
    mode: int
    size: int = 0
    link: str = ""


def members(
    medium: Medium, artifact: Artifact, *, extra: Mapping[str, str], wrap: str
) -> Iterator[Member]:
    """Walk an artifact: directories before their entries, names sorted by code points.

    Args:
        medium: where the files are.
        artifact: the file or tree.
        extra: the paths of further files and directories, by their names in the archive.
        wrap: a directory in the archive that contains everything; empty for none.

    Raises:
        ArchiveError: it contains an entry that is not allowed in an archive.
        CoreInfraError: as listing does.
    """
    if wrap:
        _check_name(wrap)
        yield Member(wrap, posixpath.dirname(artifact.path), stat.S_IFDIR | 0o755)
    prefix = f"{wrap}/" if wrap else ""
    seen: dict[str, str] = {}
    for name, path in sorted({**extra, artifact.name: artifact.path}.items()):
        for member in _walk(medium, posixpath.normpath(path), f"{prefix}{name}"):
            if artifact.os == "windows":
                _check_windows_name(member.name, seen)
            yield member


def is_tree(artifact: Artifact) -> bool:
    """Whether an artifact may be a directory."""
    return artifact.tree or artifact.name.endswith(BUNDLE)


def check_artifact(medium: Medium, artifact: Artifact) -> None:
    """Check that an artifact exists, and is a file or a directory as declared.

    Raises:
        ArtifactError: the path is empty, or a directory instead of a file or the reverse.
        ArtifactMissingError: the path does not exist.
    """
    if not artifact.path.strip("/"):
        raise ArtifactError("an artifact has no path", why="it is empty", path=artifact.path)
    what = f"cannot archive {artifact.path!r}"
    if not medium.exists(artifact.path):
        raise ArtifactMissingError(
            what, why="the path does not exist", todo="Build it first.", path=artifact.path
        )
    is_dir = medium.is_dir(artifact.path)
    if is_dir and not is_tree(artifact):
        raise ArtifactError(
            what,
            why="it is a directory where a file is expected",
            todo="To archive the whole directory, use Artifact(…, tree=True).",
            path=artifact.path,
        )
    if artifact.tree and not is_dir:
        raise ArtifactError(
            what, why="it is a file where a directory is expected", path=artifact.path
        )


def _walk(medium: Medium, top: str, archived: str) -> Iterator[Member]:
    todo = [(top, archived)]
    while todo:  # not by recursion: a tree may be deep
        path, name = todo.pop()
        _check_name(name)
        link = _link(medium, path) if path != top else ""
        if link:
            _check_link(name, link)
            yield Member(name, path, stat.S_IFLNK | 0o777, link=link)
            continue
        info = medium.stat(path)
        if info.is_dir:
            yield Member(name, path, stat.S_IFDIR | 0o755)
            inner = reversed(medium.list(path))
            todo += [(f"{path}/{one}", f"{name}/{one}") for one in inner]
        else:
            mode = 0o755 if info.mode & _EXECUTABLE else 0o644
            yield Member(name, path, stat.S_IFREG | mode, size=info.size)


def _link(medium: Medium, path: str) -> str:
    """The target of a symbolic link; empty if it is not a link."""
    if not isinstance(medium, LocalMedium):
        return ""  # other media have no links, or follow them
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
            why="its name has characters that some systems cannot unpack",
            todo="Rename it.",
            path=name,
        )


def _check_windows_name(name: str, seen: dict[str, str]) -> None:
    """Check that Windows can unpack a member, beside those that were seen already."""
    last = name.rpartition("/")[2]
    why = ""
    if _NOT_ON_WINDOWS.search(last) or reserved_on_windows(last):
        why = "Windows cannot have a file of this name"
    elif (other := seen.setdefault(name.casefold(), name)) != name:
        why = f"for Windows, it has the same name as {other!r}"
    if why:
        raise ArchiveError(f"cannot archive {name!r}", why=why, todo="Rename it.", path=name)


def _check_link(name: str, link: str) -> None:
    root = name.partition("/")[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    if link.startswith("/") or target.partition("/")[0] != root:
        raise ArchiveError(
            f"cannot archive the link {name!r}",
            why=f"it leads out of the artifact, to {link!r}",
            todo="Replace the link by its target.",
            path=name,
        )


DEFAULT_EPOCH = 315532800
"""1980-01-01 00:00 UTC, the first time that every archive format can represent."""

VARIABLE = "SOURCE_DATE_EPOCH"
_LAST = 0o77777777777  # the eleven octal digits of a tar header


def source_date_epoch(env: Mapping[str, str] | None = None) -> int:
    """The value of ``SOURCE_DATE_EPOCH`` in seconds since 1970; if it is not set, 1980-01-01.

    See https://reproducible-builds.org/specs/source-date-epoch/.

    Raises:
        ArtifactError: it is not a number of seconds.
    """
    text = (os.environ if env is None else env).get(VARIABLE, "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdigit()) or int(text[:12]) > _LAST:
        raise ArtifactError(
            f"{VARIABLE} is {text!r}",
            why=f"it must be a number of seconds since 1970, up to {_LAST}",
            todo="Try: export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)",
        )
    return int(text)
