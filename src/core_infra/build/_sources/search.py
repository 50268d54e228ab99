"""Finds the files of a project: what git tracks or does not ignore, and what a builder adds."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._errors import SourcesError
from core_infra.build._sources.git import Repository, find_repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    _File = tuple[str, os.stat_result]
    """The absolute path of a file or link, and what lstat found."""

JUNK = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj"),
        *("__pycache__", ".venv", ".nox", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("node_modules", ".task"),
    }
)
_CACHE_TAG = "CACHEDIR.TAG"
"""Marks a directory of temporary files: https://bford.info/cachedir."""


class Search:
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
                raise unreadable(path, error) from error
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
            raise unreadable(top, error) from error
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
    junk = JUNK - include
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


def unreadable(path: str | Path, error: OSError) -> SourcesError:
    return SourcesError(
        f"cannot read the source {str(path)!r}",
        why=error.strerror or str(error),
        todo="Make it readable, or let git ignore it.",
        path=str(path),
    )
