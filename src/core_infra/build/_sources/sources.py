"""A project's sources: the files that its tool needs, up to the repository; their digest and copy.

The unit that is copied is the whole repository, because tools look beside and above the project:
for a workspace, a lock file, ``../lib``, the history. In the copy, the project has the same place
in it. What lies outside of the repository and is needed, the builder lists
(:meth:`~core_infra.build.Builder.outside`).

The copy does not depend on the user and the host: modes and times are set, not preserved.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._sources.git_copy import copy_repository
from core_infra.build._sources.search import JUNK, Search, project_repository, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.build._sources.git import Repository


@dataclass(frozen=True)
class Sources:
    """The files of a project and of everything that its tool needs.

    Attributes:
        root: the directory that contains all of them.
        project: the project's directory, without links in its path.
        files: their paths relative to the root, sorted. Links are listed as links.
        repositories: the repositories in the root, which the copy has as well.
        size: the size of the files when they were found, in bytes.
    """

    root: Path
    project: Path
    files: tuple[str, ...]
    repositories: tuple[Repository, ...]
    size: int

    @property
    def inside(self) -> Path:
        """The project's path in the root."""
        return self.project.relative_to(self.root)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the files: their names, whether they are executable, their content.

        Raises:
            SourcesError: a file cannot be read.
        """
        total = hashlib.sha256(os.fsencode(self.inside) + b"\0")
        for name in self.files:
            total.update(_digest_line(self.root / name) + os.fsencode(name) + b"\0")
        return total.hexdigest()

    def copy(self, root: Path, epoch: int) -> None:
        """Copy the files, with modes 644 and 755 and one time for all, and the repositories.

        Git works in the copy: some tools derive a version from the history.

        Args:
            root: the copy of the root; it must not exist.
            epoch: the time of the files, in seconds since 1970.

        Raises:
            SourcesError: a file cannot be read.
            OSError: the copy cannot be written, as when the disk is full.
        """
        root.mkdir(parents=True)
        (root / self.inside).mkdir(parents=True, exist_ok=True)
        for name in self.files:
            self._copy_file(name, root, epoch)
        for top, directories, _ in os.walk(root):
            for name in directories:  # created with the current umask
                if not (Path(top) / name).is_symlink():
                    (Path(top) / name).chmod(0o755)
        root.chmod(0o755)
        for repository in self.repositories:
            work_tree = root / repository.top.relative_to(self.root)
            if work_tree.is_dir():
                with _readable(repository.common):
                    copy_repository(repository, work_tree)

    def _copy_file(self, name: str, root: Path, epoch: int) -> None:
        source, target = self.root / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            link = source.readlink()
            if link.is_absolute() and link.is_relative_to(self.root):
                # Otherwise what is written through it would change the original.
                link = root / link.relative_to(self.root)
            target.symlink_to(link)
            os.utime(target, (epoch, epoch), follow_symlinks=False)
            return
        with _readable(source):
            descriptor = os.open(source, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as old, target.open("wb") as new:
            mode = os.fstat(descriptor).st_mode
            shutil.copyfileobj(old, new, 1 << 20)
        target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
        os.utime(target, (epoch, epoch))


def find_sources(
    project: Path,
    exclude: Path | None = None,
    *,
    include: frozenset[str] = frozenset(),
    extra: Iterable[Path] = (),
) -> Sources:
    """Find a project's sources.

    In a git work tree, these are the tracked files of the repository and the untracked ones that
    are not ignored; elsewhere all files of the project except those of developers' tools: virtual
    environments, caches, node_modules.

    Args:
        project: its directory, absolute.
        exclude: a directory whose untracked files are left out: that of the artifacts.
        include: names of directories to include although developers' tools create them as well.
        extra: further files and directories that are needed: outside of the repository, or ignored.

    Raises:
        SourcesError: git does not answer, or a directory cannot be read.
        ToolMissingError: the project is in a git repository, and git is not installed.
    """
    project = project.resolve()
    found = Search(exclude and exclude.resolve(), JUNK - include)
    repository = project_repository(project)
    top = repository.top if repository else project
    if repository is None:
        found.add_directory(project)
    else:
        found.add_repository(repository)
    for path in extra:
        found.add(path)
    found.follow_links()
    root = Path(os.path.commonpath([top, *found.tops]))
    start = len(os.path.join(root, ""))  # noqa: PTH118 - of "/" as well
    files = sorted(path[start:] for path in found.files)
    size = sum(state.st_size for state in found.files.values())
    return Sources(root, project, tuple(files), tuple(found.repositories), size)


def _digest_line(path: Path) -> bytes:
    if path.is_symlink():
        return b"l " + hashlib.sha256(os.fsencode(path.readlink())).digest()
    with _readable(path):
        file = path.open("rb")
    with file:
        kind = b"x " if os.fstat(file.fileno()).st_mode & stat.S_IXUSR else b"f "
        return kind + hashlib.file_digest(file, "sha256").digest()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Within the block, the error that a file cannot be read is that of the source."""
    try:
        yield
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise unreadable(Path(error.filename or path), error) from error
