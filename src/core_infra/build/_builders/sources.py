"""A project's sources: the list of files, their digest, and a writable copy.

The copy does not depend on the user and the host: modes and times are set, not preserved.
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
    project: Path, exclude: Path | None = None, include: frozenset[str] = frozenset()
) -> list[str]:
    """Return the paths of a project's files, relative to it, sorted.

    In a git work tree, these are the tracked files and the untracked ones that are not ignored;
    elsewhere all files except those of developers' tools: virtual environments, caches,
    node_modules.

    Args:
        project: its directory.
        exclude: a directory to leave out: that of the artifacts.
        include: names of directories to include although developers' tools create them as well.
    """
    listed = _listed_by_git(project)
    found = _all_files(project, _JUNK - include) if listed is None else listed
    return sorted(path for path in found if exclude is None or not _within(project / path, exclude))


def is_vendored(project: Path, directory: str) -> bool:
    """Whether a directory of dependencies is part of the sources: in git, or without git."""
    listed = _listed_by_git(project)
    if listed is not None:
        return any(name.startswith(f"{directory}/") for name in listed)
    where = project / directory
    return where.is_dir() and any(not path.name.startswith(".") for path in where.iterdir())


def copy_sources(
    project: Path, copy: Path, epoch: int, *, exclude: Path, include: frozenset[str] = frozenset()
) -> None:
    """Copy a project's files, with modes 644 and 755 and one time for all.

    Git works in the copy: some tools derive a version number from the history.

    Args:
        project: its directory.
        copy: the directory of the copy; it must not exist.
        epoch: the time, in seconds since 1970.
        exclude: a directory that is not copied.
        include: as for :func:`source_files`.

    Raises:
        OSError: a file cannot be read, or the disk is full.
    """
    copy.mkdir(parents=True)
    copy.chmod(0o755)
    for name in source_files(project, exclude, include):
        _copy_file(project / name, copy / name, epoch)
    for top, directories, _ in os.walk(copy):
        for name in directories:  # created with the current umask
            (Path(top) / name).chmod(0o755)
    if (project / ".git").is_dir():
        _link_history(project / ".git", copy / ".git")


def tree_size(project: Path, exclude: Path, include: frozenset[str] = frozenset()) -> int:
    """The size of a copy of a project, in bytes."""
    sizes = ((project / name).lstat().st_size for name in source_files(project, exclude, include))
    return sum(sizes)


def commit_time(project: Path) -> int | None:
    """The time of the last commit in a project's repository, in seconds since 1970."""
    output = _git(project, "log", "-1", "--format=%ct") if (project / ".git").exists() else None
    return int(output) if output and output.strip().isdigit() else None


def described_version(project: Path) -> str:
    """The version that git derives from a repository's tags; empty without tags."""
    if not (project / ".git").exists():
        return ""
    return (_git(project, "describe", "--tags", "--dirty") or "").strip()


def git_commit(project: Path) -> str:
    """The current commit of a project's repository; empty if there is none."""
    is_repository = (project / ".git").exists()
    return (_git(project, "rev-parse", "HEAD") or "").strip() if is_repository else ""


def git_origin(project: Path) -> str:
    """The URL of the remote ``origin`` of a project's repository; empty if there is none."""
    return (_git(project, "remote", "get-url", "origin") or "").strip()


def source_digest(
    project: Path, exclude: Path | None = None, include: frozenset[str] = frozenset()
) -> str:
    """The SHA-256 of a project's files: their names, whether they are executable, their content."""
    total = hashlib.sha256()
    for name in source_files(project, exclude, include):
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
    """Make a repository of links to another repository's content, with its own index.

    As git's contrib/workdir does. ``git describe --dirty`` refreshes the index even without
    optional locks.
    """
    copy.mkdir()
    for path in git.iterdir():
        if path.name in {"HEAD", "index"}:
            shutil.copyfile(path, copy / path.name)
        elif not path.name.endswith(".lock"):
            (copy / path.name).symlink_to(path.absolute())


def _listed_by_git(project: Path) -> list[str] | None:
    output = _git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if not output:
        return None  # not a repository, or one that ignores the whole project: a build directory
    names = dict.fromkeys(name for name in output.split("\0") if name)
    return [file for name in names for file in _as_files(project, name)]


def _as_files(project: Path, name: str) -> Iterator[str]:
    path = project / name
    if path.is_dir() and not path.is_symlink():  # a submodule, or a repository in this one
        yield from (f"{name.rstrip('/')}/{inner}" for inner in source_files(path))
    elif os.path.lexists(path):  # git lists deleted files until the next commit
        yield name


def _all_files(project: Path, junk: frozenset[str]) -> Iterator[str]:
    for top, directories, names in os.walk(project):
        # Links to directories are listed as links.
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
