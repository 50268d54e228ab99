"""A project's sources: which files they are, and a copy in which tools may write.

The copy is the same whoever makes it and wherever: modes and times are set, not taken over.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_JUNK = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj"),
        *("__pycache__", ".venv", ".nox", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("node_modules", ".task"),
    }
)
_GIT = ("git", "-c", "core.quotePath=false", "-c", "core.fsmonitor=false")


def source_files(
    project: Path, exclude: Path | None = None, keep: frozenset[str] = frozenset()
) -> list[str]:
    """The paths of a project's files, relative to it, sorted.

    In a work tree of git these are the files that git tracks or would offer to add; elsewhere all
    files but those that tools of developers leave: virtual environments, caches, node_modules.

    Args:
        project: its directory.
        exclude: a directory whose content does not count: that of the artifacts.
        keep: names of directories that count, although tools of developers leave such.
    """
    listed = _listed_by_git(project)
    found = _all_files(project, _JUNK - keep) if listed is None else listed
    return sorted(path for path in found if exclude is None or not _within(project / path, exclude))


def is_vendored(project: Path, directory: str) -> bool:
    """Whether a directory of dependencies came with the sources: git has it, or there is no git."""
    listed = _listed_by_git(project)
    if listed is not None:
        return any(name.startswith(f"{directory}/") for name in listed)
    where = project / directory
    return where.is_dir() and any(not path.name.startswith(".") for path in where.iterdir())


def copy_sources(
    project: Path, copy: Path, epoch: int, *, exclude: Path, keep: frozenset[str] = frozenset()
) -> None:
    """Copy a project's files, with modes 644 and 755 and one time for all.

    Git finds the project's history from the copy: some tools make a version number of it.

    Args:
        project: its directory.
        copy: where the copy goes; it must not exist.
        epoch: the time, in seconds since 1970.
        exclude: a directory that is not copied.
        keep: as for :func:`source_files`.

    Raises:
        OSError: a file cannot be read, or the disk is full.
    """
    copy.mkdir(parents=True)
    copy.chmod(0o755)
    for name in source_files(project, exclude, keep):
        _copy_file(project / name, copy / name, epoch)
    for top, directories, _ in os.walk(copy):
        for name in directories:  # made with our umask
            (Path(top) / name).chmod(0o755)
    if (project / ".git").is_dir():
        _link_history(project / ".git", copy / ".git")


def tree_size(project: Path, exclude: Path, keep: frozenset[str] = frozenset()) -> int:
    """How many bytes a copy of a project takes."""
    sizes = ((project / name).lstat().st_size for name in source_files(project, exclude, keep))
    return sum(sizes)


def commit_time(project: Path) -> int | None:
    """When the last commit of a project's repository was made, in seconds since 1970."""
    said = _git(project, "log", "-1", "--format=%ct") if (project / ".git").exists() else None
    return int(said) if said and said.strip().isdigit() else None


def described_version(project: Path) -> str:
    """The version that git tells from a repository's tags; empty without tags."""
    if not (project / ".git").exists():
        return ""
    return (_git(project, "describe", "--tags", "--dirty") or "").strip()


def git_commit(project: Path) -> str:
    """The commit that a project's repository is at; empty if it has none."""
    there = (project / ".git").exists()
    return (_git(project, "rev-parse", "HEAD") or "").strip() if there else ""


def git_origin(project: Path) -> str:
    """Where a project's repository is published, as far as git knows."""
    return (_git(project, "remote", "get-url", "origin") or "").strip()


def source_digest(
    project: Path, exclude: Path | None = None, keep: frozenset[str] = frozenset()
) -> str:
    """The SHA-256 of a project's files: their names, whether they can be run, and their content."""
    total = hashlib.sha256()
    for name in source_files(project, exclude, keep):
        path = project / name
        if path.is_symlink():
            kind, digest = b"l", hashlib.sha256(os.fsencode(path.readlink()))
        else:
            kind = b"x" if path.stat().st_mode & stat.S_IXUSR else b"f"
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        total.update(kind + b" " + digest.digest() + os.fsencode(name) + b"\0")
    return total.hexdigest()


def _copy_file(source: Path, target: Path, epoch: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        os.utime(target, (epoch, epoch), follow_symlinks=False)
        return
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)
    os.utime(target, (epoch, epoch))


def _link_history(git: Path, copy: Path) -> None:
    """Make a repository of links to another's content, with an index of its own.

    As git's contrib/workdir does it. ``git describe --dirty`` refreshes the index even where it is
    told to take no optional locks.
    """
    copy.mkdir()
    for path in git.iterdir():
        if path.name in {"HEAD", "index"}:
            shutil.copyfile(path, copy / path.name)
        elif not path.name.endswith(".lock"):
            (copy / path.name).symlink_to(path.absolute())


def _listed_by_git(project: Path) -> list[str] | None:
    said = _git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if not said:
        return None  # no repository, or one that ignores the whole project: a build directory
    names = dict.fromkeys(name for name in said.split("\0") if name)
    return [file for name in names for file in _as_files(project, name)]


def _as_files(project: Path, name: str) -> Iterator[str]:
    path = project / name
    if path.is_dir() and not path.is_symlink():  # a submodule, or a repository in this one
        yield from (f"{name.rstrip('/')}/{inner}" for inner in source_files(path))
    elif os.path.lexists(path):  # git remembers what was deleted since
        yield name


def _all_files(project: Path, junk: frozenset[str]) -> Iterator[str]:
    for top, directories, names in os.walk(project):
        # Links to directories are members as they are.
        links = [name for name in directories if (Path(top) / name).is_symlink()]
        directories[:] = [name for name in directories if name not in {*junk, *links}]
        for name in (*names, *links):
            path = Path(top) / name
            if name != ".git" and (path.is_symlink() or path.is_file()):
                yield path.relative_to(project).as_posix()


def _within(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _git(project: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            [*_GIT, *args],
            cwd=project,
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None
