"""Asks git about a project's repository; an answer that does not come is an error."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core_infra.build._errors import SourcesError, ToolMissingError

LOCAL_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX", "GIT_NAMESPACE", "GIT_SHALLOW_FILE"),
    *("GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS", "GIT_IMPLICIT_WORK_TREE"),
    *("GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_INTERNAL_SUPER_PREFIX"),
)
"""``git rev-parse --local-env-vars``: a hook that calls a build has them of its own repository."""

_GIT = ("git", "--no-optional-locks", "-c", "core.quotePath=false", "-c", "core.fsmonitor=false")
_TIMEOUT = 120.0
_ARGUMENTS = 1000
_UNWATCHED = "Sshm"
"""What ``git ls-files -v`` calls files that ``git status`` does not look at."""
_DUBIOUS = "dubious ownership"
_OWNED = re.compile(r"dubious ownership in repository at '([^'\n]+)'")


@dataclass(frozen=True)
class Repository:
    """The git repository that a project is in.

    Attributes:
        top: the top directory of its work tree.
        directory: the git directory of this work tree.
        common: the git directory that all its work trees share.
    """

    top: Path
    directory: Path
    common: Path

    @cached_property
    def tracked(self) -> frozenset[str]:
        """The paths of the tracked files, relative to the top."""
        return frozenset(_split(self.ask("ls-files", "-z", "--cached")))

    def untracked(self, directory: str = ".") -> list[str]:
        """The paths of the untracked files that git does not ignore, relative to the top."""
        options = ("-z", "--full-name", "--others", "--exclude-standard")
        return _split(self.ask("ls-files", *options, "--", directory))

    def ignored(self, directory: str = ".") -> list[str]:
        """The paths of the ignored files, and of directories that are ignored as a whole."""
        options = ("-z", "--full-name", "--others", "--ignored", "--exclude-standard")
        return _split(self.ask("ls-files", *options, "--directory", "--", directory))

    def hidden_changes(self) -> list[str]:
        """The changed files that git was told to ignore: ``git update-index --assume-unchanged``.

        Files that a sparse checkout leaves out do not count.
        """
        listed = _split(self.ask("ls-files", "-z", "-v"))
        states = {line[2:]: line[0] for line in listed if line[0] in _UNWATCHED}
        if not states:
            return []
        index = {}
        for line in _split(self.ask("ls-files", "-z", "--stage")):
            words, _, name = line.partition("\t")
            index[name] = words.split(" ")[1]
        changed = [name for name in states if not os.path.lexists(self.top / name)]
        changed = [name for name in changed if states[name] not in "sS"]
        there = [name for name in states if stat.S_ISREG(_mode(self.top / name))]
        for start in range(0, len(there), _ARGUMENTS):
            some = there[start : start + _ARGUMENTS]
            digests = self.ask("hash-object", "--", *some).split()
            both = zip(some, digests, strict=True)
            changed += [name for name, digest in both if index.get(name) != digest]
        return changed

    def ask(self, *words: str) -> str:
        """Return the output of a git command in the top directory.

        Raises:
            SourcesError: it fails.
        """
        return ask(self.top, *words)

    def try_to_ask(self, *words: str) -> str:
        """The output of a git command; empty if it fails: there is no such commit, tag, remote."""
        done = _run(self.top, *words)
        return os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""


def find_repository(directory: Path) -> Repository | None:
    """Return the repository that a directory is in, or None if it is in none.

    Raises:
        ToolMissingError: it is in one, and git is not installed.
        SourcesError: it is in one, and git does not accept it: another user owns it, it is damaged.
    """
    ceilings = os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)
    for place in (directory, *directory.parents):
        if place != directory and str(place) in ceilings:
            return None
        if os.path.lexists(place / ".git"):
            break
    else:
        return None
    options = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    answer = ask(directory, "rev-parse", "--path-format=absolute", *options).splitlines()
    return Repository(*map(Path, answer))


def ask(directory: Path, *words: str) -> str:
    """Return the output of a git command in a directory.

    Raises:
        ToolMissingError: git is not installed.
        SourcesError: the command fails.
    """
    done = _run(directory, *words)
    if done.returncode == 0:
        return os.fsdecode(done.stdout)
    message = os.fsdecode(done.stderr).strip()
    todo = ""
    if _DUBIOUS in message:
        found = _OWNED.search(message)
        place = found[1] if found else str(directory)
        message = f"another user owns the repository ({message.splitlines()[0]})"
        todo = f"If you trust it: git config --global --add safe.directory {shlex.quote(place)}"
    raise SourcesError(
        f"git cannot read the repository of {directory}",
        why=message or f"git {words[0]} ended with {done.returncode}",
        todo=todo,
        path=str(directory),
    )


def git_environment() -> dict[str, str]:
    """The environment for git: the inherited one, without another repository's variables."""
    return {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}


def _run(directory: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    env = {**git_environment(), "LC_ALL": "C"}
    try:
        return subprocess.run(
            [*_GIT, *words],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"cannot read the repository of {directory}",
            why="git is not on PATH",
            todo="Install git: without it, the version and the ignored files are unknown.",
            tool="git",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SourcesError(
            f"git cannot read the repository of {directory}",
            why=f"git {words[0]} did not answer within {_TIMEOUT:.0f} s",
            path=str(directory),
        ) from error


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _split(output: str) -> list[str]:
    return [name for name in output.split("\0") if name]
