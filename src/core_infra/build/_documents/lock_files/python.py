"""The lock files of Python: uv, Poetry, PDM, PEP 751, Pipenv, requirements."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from core_infra.build._documents.lock_files.dependency import Dependency, reachable, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SEPARATORS = re.compile(r"[-_.]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([^\s;,#*]+))?(.*)"
)
_VIA = re.compile(r"\s*#\s*(?:via\b)?\s*([A-Za-z0-9][A-Za-z0-9._-]*)?")
"""A comment of pip-compile: the package is there because another one needs it."""
_INCLUDED = re.compile(r"(?:-r|--requirement)[\s=]+(\S+)")


_UV_LISTS = {"dependencies", "dev-dependencies", "optional-dependencies", "metadata"}


def read_uv(text: str, manifest: str) -> Iterator[Dependency]:
    """uv.lock: what the project's own packages need, without groups for developers."""
    del manifest
    packages = tomllib.loads(text).get("package", [])
    own = [one for one in packages if {"virtual", "editable"} & table(one.get("source")).keys()]
    known = any(_UV_LISTS & one.keys() for one in own)
    yield from _closure(packages, [name for one in own for name in _uv_names(one)], known)


def _uv_names(package: dict[str, Any]) -> Iterator[str]:
    yield from (normal(one["name"]) for one in package.get("dependencies", []))


def read_poetry(text: str, manifest: str) -> Iterator[Dependency]:
    """poetry.lock: the group main, of all versions of Poetry."""
    packages = tomllib.loads(text).get("package", [])
    if any("groups" in one or "category" in one for one in packages):
        for one in packages:
            groups = one.get("groups", ["main" if one.get("category", "main") == "main" else "dev"])
            if "main" in groups:
                yield Dependency("pypi", normal(one["name"]), one["version"])
        return
    wanted = _required(tomllib.loads(manifest or ""))
    yield from _closure(packages, wanted or [], wanted is not None)


def _required(project: dict[str, Any]) -> list[str] | None:
    """The names that pyproject.toml requires at run time; None if it does not say."""
    poetry = table(table(project.get("tool")).get("poetry")).get("dependencies")
    listed = table(project.get("project")).get("dependencies")
    if poetry is None and listed is None:
        return None
    found = [match[0] for one in listed or () if (match := _NAME.match(str(one)))]
    return [normal(name) for name in (*found, *table(poetry)) if name != "python"]


def read_pdm(text: str, manifest: str) -> Iterator[Dependency]:
    """pdm.lock: the group default."""
    del manifest
    for one in tomllib.loads(text).get("package", []):
        if "default" in one.get("groups", ["default"]) and "path" not in one:
            yield Dependency("pypi", normal(one["name"]), one["version"])


def read_pylock(text: str, manifest: str) -> Iterator[Dependency]:
    """pylock.toml (PEP 751): the packages that are there without a dependency group or extra."""
    del manifest
    for one in tomllib.loads(text).get("packages", []):
        marker = one.get("marker", "")
        if "directory" not in one and "dependency_groups" not in marker and "extras" not in marker:
            yield Dependency("pypi", normal(one["name"]), one.get("version", ""))


def read_pipfile(text: str, manifest: str) -> Iterator[Dependency]:
    """Pipfile.lock: the section default."""
    del manifest
    for name, one in json.loads(text).get("default", {}).items():
        yield Dependency("pypi", normal(name), one.get("version", "").removeprefix("=="))


def read_requirements(
    path: str, read: Callable[[str], str], seen: frozenset[str] = frozenset()
) -> Iterator[Dependency]:
    """requirements.txt and the files that it includes; without a pin, the version is empty."""
    for text in re.sub(r"\\\r?\n", " ", read(path)).splitlines():
        line = re.sub(r"(?:^|\s)#.*", "", text).strip()
        if match := _INCLUDED.match(line):
            folder = path.rpartition("/")[0]
            inner = f"{folder}/{match[1]}" if folder else match[1]
            if inner not in seen:
                yield from read_requirements(inner, read, seen | {path, inner})
        elif (match := _REQUIREMENT.match(line)) and "://" not in line:
            yield Dependency("pypi", normal(match[1]), match[2] or "")


def of_the_wheel(
    pinned: Iterable[Dependency], manifest: str, requirements: str
) -> list[Dependency]:
    """Those packages of requirements.txt that the project's wheel requires, itself or by others.

    Which others, only the comments of pip-compile and uv say. The file may be for developers: if
    pyproject.toml lists what the wheel requires, the rest is not shipped.

    Args:
        pinned: all packages of the file.
        manifest: the text of pyproject.toml.
        requirements: the text of the file.
    """
    declared = declared_names(manifest)
    if declared is None:
        return list(pinned)
    needed_by: dict[str, set[str]] = {}
    name = ""
    for line in requirements.splitlines():
        if (found := _VIA.match(line)) and name:
            needed_by.setdefault(normal(found[1] or ""), set()).add(name)
        elif match := _REQUIREMENT.match(line.strip()):
            name = normal(match[1])
    shipped = reachable(declared, lambda one: needed_by.get(one, ()))
    return [one for one in pinned if one.name in shipped]


def declared_names(manifest: str) -> list[str] | None:
    """The names that ``project`` of pyproject.toml requires; None if it does not list them."""
    project = tomllib.loads(manifest or "").get("project")
    if not isinstance(project, dict) or "dependencies" in project.get("dynamic", ()):
        return None
    listed = project.get("dependencies", ())
    return [normal(match[0]) for one in listed if (match := _NAME.match(str(one)))]


def normal(name: str) -> str:
    """A distribution's name as in package URLs."""
    return _SEPARATORS.sub("-", name).lower()


def _closure(
    packages: Iterable[dict[str, Any]],
    roots: Iterable[str],
    known: bool,  # noqa: FBT001 - whether the roots are all
) -> Iterator[Dependency]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in packages:
        by_name.setdefault(normal(one["name"]), []).append(one)

    def following(name: str) -> Iterator[str]:
        for one in by_name.get(name, ()):
            used = one.get("dependencies", {})
            names = used if isinstance(used, dict) else [inner["name"] for inner in used]
            yield from (normal(inner) for inner in names)

    for name in reachable(roots if known else by_name, following):
        for one in by_name.get(name, ()):
            own = {"virtual", "editable", "directory"} & table(one.get("source")).keys()
            if not own and "version" in one:
                yield Dependency("pypi", name, one["version"])
