"""The history of a project: its commit, its version from a tag, and uncommitted changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.build._sources.search import project_repository

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._sources.git import Repository

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)((?:[-+._]?[0-9A-Za-z]+)*)")
"""A version, as it is in a tag: v1.2.3, 1.2, v2.0.0-rc.1; not nightly, latest or v1/docs."""


@dataclass(frozen=True, slots=True)
class History:
    """The state of a project's repository; all empty without one.

    Attributes:
        commit: the current commit.
        time: its time, in seconds since 1970.
        origin: the URL of the remote ``origin``.
        tag: the tag of the version, with its prefix; empty if no tag is a version.
        version: the version: of the tag; after later commits with their number and the commit
            (``v1.2.3-4-gabcdef0``), with changes ``-dirty``.
        changed: the tracked files with uncommitted changes.
        untracked: the untracked files that are not ignored.
        shallow: whether the history is cut off, so that tags may be missing.
    """

    commit: str = ""
    time: int | None = None
    origin: str = ""
    tag: str = ""
    version: str = ""
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    shallow: bool = False

    @property
    def exact(self) -> bool:
        """Whether the version is that of a tag of the current commit."""
        return bool(self.tag) and self.tag.endswith(self.version)


def read_history(project: Path, *, prefix: str = "", output: Path | None = None) -> History:
    """Read the history of a project.

    Args:
        project: its directory.
        prefix: the text before the version in its tags: ``app-`` for ``app-v1.2.3``. By default,
            a project in a subdirectory uses the tags with its path (``apps/hello/v1.2.3``) if
            there are any, and otherwise those without a prefix.
        output: the output directory, in which changes do not count.

    Raises:
        SourcesError: git does not answer.
        ToolMissingError: the project is in a git repository, and git is not installed.
    """
    repository = project_repository(project)
    if repository is None:
        return History()
    shallow = repository.ask("rev-parse", "--is-shallow-repository").strip() == "true"
    commit = repository.try_to_ask("rev-parse", "--verify", "-q", "HEAD")
    changed, untracked = _changes(repository, output)
    if not commit:  # a new repository
        return History(changed=changed, untracked=untracked, shallow=shallow)
    prefixes = _prefixes(repository, project, prefix)
    tag, version = next(filter(None, (_described(repository, one) for one in prefixes)), ("", ""))
    return History(
        commit=commit,
        time=int(repository.ask("log", "-1", "--format=%ct")),
        origin=repository.try_to_ask("remote", "get-url", "origin"),
        tag=tag,
        version=f"{version}-dirty" if version and changed else version,
        changed=changed,
        untracked=untracked,
        shallow=shallow,
    )


def previous_version(project: Path, *, prefix: str = "") -> str:
    """The tag of the version before that of the current commit; empty if there is none.

    Before a final version, versions like ``2.0.0-rc.1`` do not count.

    Args:
        project: its directory.
        prefix: as for :func:`read_history`.

    Raises:
        SourcesError: git does not answer.
    """
    repository = project_repository(project)
    if repository is None:
        return ""
    here = repository.ask("tag", "--points-at", "HEAD").split()
    merged = repository.ask("tag", "--merged", "HEAD").split()
    for one in _prefixes(repository, project, prefix):
        current = [tag for tag in here if _has_version(tag, one)]
        final = not current or any(is_final(tag.removeprefix(one)) for tag in current)
        names = [tag for tag in merged if _has_version(tag, one) and tag not in here]
        if final:
            names = [tag for tag in names if is_final(tag.removeprefix(one))]
        matches = [f"--match={_literal(name)}" for name in names[-_TAGS:]]
        if matches and (
            found := repository.try_to_ask("describe", "--tags", "--abbrev=0", *matches)
        ):
            return found
    return ""


def _prefixes(repository: Repository, project: Path, prefix: str) -> list[str]:
    """The prefixes of a project's tags, the first choice first."""
    inside = project.resolve().relative_to(repository.top).as_posix()
    return [prefix] if prefix else ["", *([f"{inside}/"] if inside != "." else [])][::-1]


def is_version(text: str) -> bool:
    """Whether a text is a version: ``1.2.3``, ``v2.0.0-rc.1``."""
    return _VERSION.fullmatch(text) is not None


def is_final(version: str) -> bool:
    """Whether a version is that of a finished release: not ``2.0.0-rc.1``, ``1.0b2``."""
    match = _VERSION.fullmatch(version)
    return match is not None and not match[2].partition("+")[0]


def _described(repository: Repository, prefix: str) -> tuple[str, str] | None:
    """The nearest tag with a prefix and a version, and the version of the current commit."""
    here = repository.ask("tag", "--points-at", "HEAD").split()
    if tags := [tag for tag in here if _has_version(tag, prefix)]:
        tag = max(tags, key=lambda tag: _order(tag.removeprefix(prefix)))
        return tag, tag.removeprefix(prefix)
    merged = repository.ask("tag", "--merged", "HEAD").split()
    names = [tag for tag in merged if _has_version(tag, prefix)]
    if not names:
        return None
    # Only those: the nearest tag may be "nightly", or of another part of the repository.
    matches = [f"--match={_literal(name)}" for name in names]
    described = repository.try_to_ask("describe", "--tags", "--long", *matches[-_TAGS:])
    if not described:
        return None
    tag = described.rsplit("-", 2)[0]
    return tag, described.removeprefix(prefix)


_TAGS = 1000
"""How many tags are considered: each is an argument."""


def _literal(pattern: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", pattern)


def _has_version(tag: str, prefix: str) -> bool:
    return tag.startswith(prefix) and is_version(tag.removeprefix(prefix))


def _order(version: str) -> tuple[tuple[int, ...], bool, str]:
    match = _VERSION.fullmatch(version)
    assert match is not None  # noqa: S101 - only versions are compared
    numbers = tuple(map(int, match[1].split(".")))
    return numbers, not match[2].startswith("-"), match[2]


def _changes(
    repository: Repository, output: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # Whatever .gitmodules and the user's configuration say: submodules are part of the sources.
    options = ("--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=none")
    listed = repository.ask("status", *options)
    output = output and output.resolve()
    changed, untracked = [], []
    fields = iter(listed.split("\0"))
    for field in fields:
        if not field:
            continue
        if field[0] in "RC":
            next(fields)  # the former name
        name = field[3:]
        if not field.startswith("??"):
            changed.append(name)
        elif not output or not (repository.top / name).is_relative_to(output):
            untracked.append(name)
    hidden = [name for name in repository.hidden_changes() if name not in changed]
    return (*changed, *hidden), tuple(untracked)
