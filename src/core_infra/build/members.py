"""What goes into an archive: the file, or the whole tree, that an artifact is."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build.errors import ArchiveError, ArtifactError, ArtifactMissingError
from core_infra.build.local import real_path
from core_infra.medium.local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.build.artifact import Artifact
    from core_infra.medium.medium import Medium

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
