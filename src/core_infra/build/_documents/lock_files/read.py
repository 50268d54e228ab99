"""Reads the lock files of a project."""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import yaml

from core_infra.build._documents.lock_files import npm, others, python
from core_infra.build._errors import ArtifactError
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from core_infra.build._documents.lock_files.dependency import Dependency
    from core_infra.medium._medium import Medium

T = TypeVar("T")


class _Reader(NamedTuple):
    """A lock file: its name, its reader, and the project's own file, which the reader gets, too."""

    name: str
    read: Callable[[str, str], Iterator[Dependency]]
    manifest: str = ""


_PACKAGE, _PROJECT = "package.json", "pyproject.toml"
_GROUPS = (
    (_Reader("go.mod", others.read_go),),
    (_Reader("Cargo.lock", others.read_cargo),),
    (_Reader("composer.lock", others.read_composer),),
    (
        _Reader("npm-shrinkwrap.json", npm.read_npm, _PACKAGE),
        _Reader("package-lock.json", npm.read_npm, _PACKAGE),
        _Reader("pnpm-lock.yaml", npm.read_pnpm, _PACKAGE),
        _Reader("yarn.lock", npm.read_yarn, _PACKAGE),
        _Reader("bun.lock", npm.read_bun, _PACKAGE),
    ),
    (
        _Reader("uv.lock", python.read_uv, _PROJECT),
        _Reader("poetry.lock", python.read_poetry, _PROJECT),
        _Reader("pdm.lock", python.read_pdm, _PROJECT),
        _Reader("pylock.toml", python.read_pylock, _PROJECT),
        _Reader("Pipfile.lock", python.read_pipfile),
    ),
)
"""Of each group, the first that exists is read: the package manager uses it."""

_REQUIREMENTS = "requirements.txt"
_FRONT_ENDS = {"wails.json": "frontend"}
_UNREADABLE = {
    "bun.lockb": "a binary format: bun install --save-text-lockfile",
    "vcpkg.json": "its versions are not in the project",
    "conanfile.txt": "its versions are not in the project",
    "conanfile.py": "its versions are not in the project",
}
_FETCHES = re.compile(
    r"^\s*(?:FetchContent_Declare|CPMAddPackage|ExternalProject_Add)\s*\(", re.MULTILINE
)


def dependencies(medium: Medium, directory: str) -> list[Dependency]:
    """Return the packages that a project ships, from its lock files; sorted, without duplicates.

    Packages for developers only are left out, as far as the lock file has this information. It
    reads go.mod, Cargo.lock, composer.lock; package-lock.json, npm-shrinkwrap.json, yarn.lock,
    pnpm-lock.yaml, bun.lock; uv.lock, poetry.lock, pdm.lock, pylock.toml, Pipfile.lock and
    requirements.txt.

    Raises:
        ArtifactError: a lock file is malformed, so the list would be incomplete.
        CoreInfraError: reading fails.
    """
    found: set[Dependency] = set()
    for reader in _readers(medium, directory):
        path = posixpath.join(directory, reader.name)
        manifest = posixpath.join(directory, reader.manifest) if reader.manifest else ""
        text = medium.read_text(manifest) if manifest and medium.is_file(manifest) else ""
        found.update(_read(path, lambda: reader.read(medium.read_text(path), text)))  # noqa: B023
    requirements = posixpath.join(directory, _REQUIREMENTS)
    if medium.is_file(requirements) and not _has_lock(medium, directory, "uv.lock"):
        found.update(one for one in _required(medium, directory) if one.version)
    for marker, inner in _FRONT_ENDS.items():
        if medium.is_file(posixpath.join(directory, marker)):
            found.update(dependencies(medium, posixpath.join(directory, inner)))
    return sorted(found)


def unread(medium: Medium, directory: str) -> list[str]:
    """Return why the dependencies may be incomplete, one sentence each.

    Raises:
        CoreInfraError: reading fails.
    """

    def text(name: str) -> str:
        path = posixpath.join(directory, name)
        return medium.read_text(path) if medium.is_file(path) else ""

    found = [f"{name}: {why}" for name, why in _UNREADABLE.items() if text(name)]
    if _FETCHES.search(text("CMakeLists.txt")):
        found.append("CMakeLists.txt: it fetches sources of others")
    if not _has_lock(medium, directory, "package-lock.json") and not text("bun.lockb"):
        package = _parsed(json.loads, text(_PACKAGE))
        if package.get("dependencies"):
            found.append(f"{_PACKAGE}: it has dependencies, but no lock file")
    if not _has_lock(medium, directory, "uv.lock"):
        listed = _required(medium, directory) if text(_REQUIREMENTS) else []
        loose = sorted({one.name for one in listed if not one.version})
        found += [f"{_REQUIREMENTS}: {', '.join(loose)} not pinned by =="] if loose else []
        path = posixpath.join(directory, _PROJECT)
        declared = _read(path, lambda: python.declared_names(text(_PROJECT)) or [])
        missing = sorted(set(declared) - {one.name for one in listed})
        found += [f"{_PROJECT}: {', '.join(missing)} not in a lock file"] if missing else []
    return found


def _required(medium: Medium, directory: str) -> list[Dependency]:
    """What the project requires by its requirements.txt; without a pin, the version is empty."""
    read, path = _text(medium), posixpath.join(directory, _REQUIREMENTS)
    pinned = _read(path, lambda: python.read_requirements(path, read))
    manifest = posixpath.join(directory, _PROJECT)
    return _read(manifest, lambda: python.of_the_wheel(pinned, read(manifest), read(path)))


def _text(medium: Medium) -> Callable[[str], str]:
    """Read a file; empty if it does not exist."""
    return lambda path: medium.read_text(path) if medium.is_file(path) else ""


def _parsed(parse: Callable[[str], object], text: str) -> dict[str, object]:
    try:
        found = parse(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _readers(medium: Medium, directory: str) -> Iterator[_Reader]:
    for group in _GROUPS:
        there = (one for one in group if medium.is_file(posixpath.join(directory, one.name)))
        yield from [one for one in (next(there, None),) if one is not None]


def _has_lock(medium: Medium, directory: str, kind: str) -> bool:
    """Whether there is a lock file of the same group."""
    group = next(one for one in _GROUPS if any(reader.name == kind for reader in one))
    return any(medium.is_file(posixpath.join(directory, one.name)) for one in group)


def _read(path: str, read: Callable[[], Iterable[T]]) -> list[T]:
    try:
        return list(read())
    except (
        *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
        yaml.YAMLError,
    ) as error:
        if isinstance(error, CoreInfraError):
            raise
        raise ArtifactError(
            f"cannot read the lock file {path!r}",
            why=f"{type(error).__name__}: {error}",
            todo="Regenerate it by its package manager.",
            path=path,
        ) from error
