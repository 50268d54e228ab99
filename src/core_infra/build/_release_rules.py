"""What a release may be made of: committed sources, and one version for all of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_infra.build._sources.history import is_version

if TYPE_CHECKING:
    from core_infra.build._sources.history import History

_LATER = re.compile(r"-\d+-g[0-9a-f]{4,}(?:-dirty)?$")
"""The end of the version of a commit after a tag."""

_NAMES_COMMIT = re.compile(r"[.-]dev\d*|\+.*[0-9a-f]{7}")
"""In the version that a build backend computes for a commit after a tag: 1.1.dev3+gabcdef0."""

_SNAPSHOT = "-snapshot"
_SHOWN = 3
_PRE_RELEASES = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
_PART = re.compile(r"\d+|[a-z]+")


def release_version(version: str, own: str) -> str:
    """The version of a release: that of the tag, if this is its commit; else that of the package.

    Args:
        version: the version from the repository; empty without a tag.
        own: the version that the package itself has; empty if it has none.
    """
    later = _LATER.search(version)
    raised = bool(later and own and not same_version(version[: later.start()], own))
    return own if raised or not version else version


def snapshot_version(history: History, version: str) -> str:
    """The version of a release that is not one: with the commit, and whether there are changes."""
    if _SNAPSHOT in version:  # of the project that this is a build of
        return version
    base = _LATER.sub("", version).removesuffix("-dirty") or "0.0.0"
    parts = [history.commit[:7], "dirty" if history.changed or history.untracked else ""]
    return ".".join(filter(None, (f"{base}{_SNAPSHOT}", *parts)))


def release_problems(history: History, version: str, own: str) -> list[str]:
    """Why a release cannot be made of these sources, one sentence each.

    Args:
        history: the state of the repository.
        version: the version of the release.
        own: the version that the package itself has; empty if it has none.
    """
    problems = []
    changed = [*history.changed, *history.untracked]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        problems.append(
            f"there are uncommitted changes: {', '.join(changed[:_SHOWN])}{more}. "
            "Commit them, or use --snapshot"
        )
    if history.shallow and not version:
        problems.append(
            "the clone is shallow and has no tag for the version: git fetch --unshallow --tags "
            "(actions/checkout: fetch-depth: 0), or use --version"
        )
    elif history.commit and not version:
        problems.append(
            "no tag is a version, and the project's own file has none: tag the commit "
            "(git tag v1.0.0), or use --version or --snapshot"
        )
    if why := version_problem(version, own):
        problems.append(why)
    return problems


def version_problem(version: str, own: str, what: str = "the package") -> str:
    """Why a release of this version cannot contain a package with its own; empty if it can."""
    later = _LATER.search(version)
    if own and later and same_version(version[: later.start()], own):
        return (
            f"{what} has version {own}, that of the tag, and there are commits after it. "
            "Raise the version in the project's file, check out the tag, or use --snapshot"
        )
    if own and later and not _NAMES_COMMIT.search(own):
        return (
            f"{what} has version {own}, but the release would be {version}. "
            "Tag the commit, or use --version or --snapshot"
        )
    if not own or not states_version(version) or same_version(version, own):
        return ""
    return (
        f"{what} has version {own}, but the release would be {version}. "
        "Change one of them: the version in the project's file, or the tag"
    )


def states_version(version: str) -> bool:
    """Whether a version is that of a release, and not of a commit after it or a snapshot."""
    return is_version(version) and not _LATER.search(version) and _SNAPSHOT not in version


def same_version(one: str, other: str) -> bool:
    """Whether two versions are equal, in whichever form: v1.0, 1.0.0; 2.0.0-rc.1, 2.0rc1."""
    return _normal(one) == _normal(other)


def _normal(version: str) -> list[str]:
    public = version.lower().removeprefix("v").partition("+")[0]
    match = re.match(r"\d+(?:\.\d+)*", public)
    numbers = match[0] if match else ""
    release = [str(int(number)) for number in numbers.split(".") if number]
    while len(release) > 1 and release[-1] == "0":
        release.pop()
    rest = [_PRE_RELEASES.get(part, part) for part in _PART.findall(public[len(numbers) :])]
    return [*release, "-", *(str(int(part)) if part.isdigit() else part for part in rest)]
