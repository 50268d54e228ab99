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
from typing import TYPE_CHECKING, Protocol

from core_infra.build._builders.git import Repository, find_repository
from core_infra.build._builders.git_copy import copy_repository
from core_infra.build._errors import SourcesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

    _File = tuple[str, os.stat_result]
    """The absolute path of a file or link, and what lstat found."""

_JUNK = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj"),
        *("__pycache__", ".venv", ".nox", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("node_modules", ".task"),
    }
)
_CACHE_TAG = "CACHEDIR.TAG"
"""Marks a directory of temporary files: https://bford.info/cachedir."""


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


class SourcesOwner(Protocol):
    """The part of a builder that determines its sources; see :class:`core_infra.build.Builder`."""

    source_directories: frozenset[str]

    def outside(self, project_dir: Path) -> list[Path]: ...
    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]: ...


def sources_of(
    builder: SourcesOwner, context: BuildContext, targets: Sequence[Target] | None = None
) -> Sources:
    """Find the sources of a builder: what a copy contains, and what the digest covers.

    Args:
        builder: the builder.
        context: its input.
        targets: the platforms; without, ignored files that the builder reads are left out.

    Raises:
        SourcesError: git does not answer, or a directory cannot be read.
    """
    project = context.project_dir.resolve()
    ignored = builder.ignored(context, targets) if targets is not None else []
    return find_sources(
        project,
        context.output_dir,
        include=builder.source_directories,
        extra=[*builder.outside(project), *ignored],
    )


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
    found = _Search(exclude and exclude.resolve(), _JUNK - include)
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


def project_repository(project: Path) -> Repository | None:
    """The repository that a project is part of; None if it has none, or one that ignores it.

    A directory in another one's work tree without a tracked file is not part of it: home
    directories and build directories lie in repositories that have nothing to do with them.

    Raises:
        SourcesError: git does not answer.
        ToolMissingError: git is not installed.
    """
    project = project.resolve()
    repository = find_repository(project)
    if repository is None or repository.top == project:
        return repository
    inside = f"{project.relative_to(repository.top).as_posix()}/"
    return repository if any(name.startswith(inside) for name in repository.tracked) else None


def ignored_files(directory: Path, include: frozenset[str] = frozenset()) -> list[Path]:
    """The files of a directory that git ignores, except those of developers' tools.

    Directories that are marked as caches, such as cargo's ``target``, are left out.
    """
    repository = project_repository(directory)
    if repository is None:
        return []
    names = repository.ignored(directory.resolve().relative_to(repository.top).as_posix())
    junk = _JUNK - include
    found: list[Path] = []
    for name in names:
        path = repository.top / name
        if not junk.intersection(Path(name).parts):
            inner = path.is_dir() and not (path / _CACHE_TAG).exists()
            if inner:
                found += (Path(file) for file, _ in _walk(path, junk))
            elif not path.is_dir():
                found.append(path)
    return found


def is_vendored(project: Path, directory: str) -> bool:
    """Whether a directory of dependencies is part of the sources: in git, or without git."""
    repository = project_repository(project)
    where = project.resolve() / directory
    if repository is None:
        return where.is_dir() and any(not path.name.startswith(".") for path in where.iterdir())
    inside = f"{where.relative_to(repository.top).as_posix()}/"
    names = (*repository.tracked, *repository.untracked(f"./{inside}"))
    return any(name.startswith(inside) for name in names)


class _Search:
    """Collects files. Their paths are strings, with one lstat for each: there may be very many.

    Attributes:
        files: the absolute paths of the files and links, with what lstat found.
        tops: the directories that they are in.
        repositories: the repositories of the directories.
    """

    def __init__(self, exclude: Path | None, junk: frozenset[str]) -> None:
        self.files: dict[str, os.stat_result] = {}
        self.tops: list[Path] = []
        self.repositories: list[Repository] = []
        self._exclude = exclude
        self._junk = junk

    def add(self, path: Path) -> None:
        """Add a file or directory that is outside of the repository, or ignored."""
        if not path.is_dir() or path.is_symlink():
            if os.path.lexists(path):
                self.files[str(path)] = path.lstat()
                self.tops.append(path.parent)
        elif not any(path.is_relative_to(top) for top in self.tops):
            repository = project_repository(path)
            if repository is None:
                self.add_directory(path)
            else:
                self.add_repository(repository)
        else:
            self._add_walked(path)

    def add_directory(self, directory: Path) -> None:
        """Add all files of a directory."""
        self.tops.append(directory)
        self._add_walked(directory)

    def add_repository(self, repository: Repository) -> None:
        """Add the files of a repository that it does not ignore, and its submodules."""
        self.tops.append(repository.top)
        self.repositories.append(repository)
        self.files.update(self._listed(repository.top, repository.tracked))
        start = os.path.join(repository.top, "")  # noqa: PTH118 - of "/" as well
        names = repository.untracked()
        untracked = [name for name in names if not self._is_output(f"{start}{name}")]
        self.files.update(self._listed(repository.top, untracked))

    def follow_links(self) -> None:
        """Add the targets of relative links that lead out of what was found."""
        waiting = self._links()
        while waiting:
            path = Path(waiting.pop())
            link = path.readlink()
            target = Path(os.path.normpath(path.parent / link))
            known = any(target.is_relative_to(top) for top in self.tops)
            around = any(top.is_relative_to(target) for top in self.tops)
            if link.is_absolute() or known or around or not os.path.lexists(target):
                continue
            before = set(self.files)
            self.add(target)
            waiting += [new for new in self._links() if new not in before]

    def _links(self) -> list[str]:
        return [path for path, state in self.files.items() if stat.S_ISLNK(state.st_mode)]

    def _listed(self, top: Path, names: Iterable[str]) -> Iterator[_File]:
        start = os.path.join(top, "")  # noqa: PTH118 - of "/" as well
        for name in names:
            path = start + name.rstrip("/")
            try:
                state = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # git lists deleted files until the next commit
            except PermissionError as error:
                raise _unreadable(path, error) from error
            if stat.S_ISDIR(state.st_mode):  # a submodule, or a repository in this one
                self._add_inner(Path(path))
            elif _is_source(state):
                yield path, state

    def _add_inner(self, directory: Path) -> None:
        repository = find_repository(directory)
        if repository is not None and repository.top == directory:  # else it is not checked out
            self.add_repository(repository)

    def _add_walked(self, directory: Path) -> None:
        found = _walk(directory, self._junk)
        self.files.update(file for file in found if not self._is_output(file[0]))

    def _is_output(self, path: str) -> bool:
        return self._exclude is not None and f"{path}/".startswith(f"{self._exclude}/")


def _walk(directory: Path, junk: frozenset[str]) -> Iterator[_File]:
    waiting = [str(directory)]
    while waiting:
        top = waiting.pop()
        try:
            with os.scandir(top) as entries:
                found = list(entries)
        except OSError as error:
            raise _unreadable(top, error) from error
        if top != str(directory) and any(entry.name == _CACHE_TAG for entry in found):
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in junk:
                    waiting.append(entry.path)
            elif entry.name != ".git":
                with contextlib.suppress(FileNotFoundError):  # removed since
                    state = entry.stat(follow_symlinks=False)
                    if _is_source(state):
                        yield entry.path, state


def _is_source(state: os.stat_result) -> bool:
    return stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)


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
        raise _unreadable(Path(error.filename or path), error) from error


def _unreadable(path: str | Path, error: OSError) -> SourcesError:
    return SourcesError(
        f"cannot read the source {str(path)!r}",
        why=error.strerror or str(error),
        todo="Make it readable, or let git ignore it.",
        path=str(path),
    )
