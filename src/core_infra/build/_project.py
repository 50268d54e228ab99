"""Detects the type of a project by its files."""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium


class ProjectType(StrEnum):
    """The types of project that can be built."""

    GO = "go"
    WAILS = "wails"
    NODE = "node"
    PHP = "php"
    CPP = "cpp"
    DOCKER = "docker"
    LINUXKIT = "linuxkit"
    TASKFILE = "taskfile"
    PYTHON = "python"
    RUST = "rust"
    DOCS = "docs"


_TASKFILES = ("Taskfile.yml", "Taskfile.yaml", "taskfile.yml", "taskfile.yaml")

_MARKERS: dict[ProjectType, tuple[str, ...]] = {
    ProjectType.WAILS: ("wails.json",),
    ProjectType.GO: ("go.mod",),
    ProjectType.NODE: ("package.json",),
    ProjectType.PHP: ("composer.json",),
    ProjectType.PYTHON: ("pyproject.toml", "setup.py"),
    ProjectType.RUST: ("Cargo.toml",),
    ProjectType.CPP: ("CMakeLists.txt",),
    ProjectType.DOCKER: ("Dockerfile", "Containerfile"),
    ProjectType.LINUXKIT: ("linuxkit.yml", "linuxkit.yaml"),
    ProjectType.TASKFILE: _TASKFILES,
    ProjectType.DOCS: ("mkdocs.yml", "mkdocs.yaml"),
}
"""The most specific first: a Go program may have a Dockerfile as well."""

_TOOLS_ONLY = {
    "pyproject.toml": "pyproject.toml configures tools, but has no project and no build-system",
    "package.json": "package.json lists developers' tools, but has no script 'build' "
    "and no package",
}
"""Why these files do not make a project, if they are there."""

_LINUXKIT_DIR = ".core/linuxkit"
_WAILS_3 = re.compile(r"^\s*(?:require\s+)?github\.com/wailsapp/wails/v3\s", re.MULTILINE)
_MARKER_MAX = 1 << 20
_PACKAGE_FIELDS = frozenset(
    {"main", "module", "bin", "exports", "browser", "types", "files", "workspaces", "dependencies"}
)
"""Fields of package.json that describe a package or an application."""
_PACKAGING_TOOLS = frozenset({"poetry", "flit", "pdm", "setuptools", "maturin"})
"""Sections of pyproject.toml that describe a package."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a directory is a project of one type, and why.

    Attributes:
        type: the type.
        found: whether it is a project of this type.
        marker: the file that determined it; empty if there is none.
        why: the reason, as text.
    """

    type: ProjectType
    found: bool
    marker: str
    why: str


def explain(medium: Medium, directory: str) -> list[Finding]:
    """Check a directory for every type, the most specific first.

    A marker must be a file: a directory of that name does not count.
    """
    return [_look(medium, directory, kind) for kind in _MARKERS]


def discover(medium: Medium, directory: str) -> list[ProjectType]:
    """Return all types that match a directory, the most specific first."""
    return [finding.type for finding in explain(medium, directory) if finding.found]


def primary_type(medium: Medium, directory: str) -> ProjectType | None:
    """Return the most specific type, or None if the directory is not a project."""
    return next(iter(discover(medium, directory)), None)


def is_go_project(medium: Medium, directory: str) -> bool:
    """Whether there is a go.mod or a wails.json."""
    return _has(medium, directory, "go.mod") or _has(medium, directory, "wails.json")


def is_wails_project(medium: Medium, directory: str) -> bool:
    """Whether there is a wails.json, or the go.mod and Taskfile of a project of Wails 3."""
    return _look(medium, directory, ProjectType.WAILS).found


def is_node_project(medium: Medium, directory: str) -> bool:
    """Whether there is a package.json."""
    return _look(medium, directory, ProjectType.NODE).found


def is_php_project(medium: Medium, directory: str) -> bool:
    """Whether there is a composer.json."""
    return _look(medium, directory, ProjectType.PHP).found


def is_cpp_project(medium: Medium, directory: str) -> bool:
    """Whether there is a CMakeLists.txt."""
    return _look(medium, directory, ProjectType.CPP).found


def _look(medium: Medium, directory: str, kind: ProjectType) -> Finding:
    names = _MARKERS[kind]
    for name in names:
        if _has(medium, directory, name):
            if _only_for_tools(medium, directory, name):
                continue
            return Finding(kind, found=True, marker=name, why=f"{name} is there")
    if kind is ProjectType.WAILS and (taskfile := _wails_3(medium, directory)):
        why = f"go.mod requires wails/v3 and {taskfile} is there"
        return Finding(kind, found=True, marker="go.mod", why=why)
    if kind is ProjectType.LINUXKIT and (template := _linuxkit_template(medium, directory)):
        return Finding(kind, found=True, marker=template, why=f"{template} is there")
    for name in names:
        if name in _TOOLS_ONLY and _has(medium, directory, name):
            return Finding(kind, found=False, marker="", why=_TOOLS_ONLY[name])
    for name in names:
        if medium.exists(posixpath.join(directory, name)):
            return Finding(kind, found=False, marker="", why=f"{name} is a directory")
    return Finding(kind, found=False, marker="", why=f"no {' or '.join(names)}")


def _has(medium: Medium, directory: str, name: str) -> bool:
    return medium.is_file(posixpath.join(directory, name))


def _only_for_tools(medium: Medium, directory: str, name: str) -> bool:
    """Whether a file is there for developers' tools only, as for ruff in a project in C++."""
    only = {"pyproject.toml": _only_configures_tools, "package.json": _only_lists_tools}.get(name)
    if only is None:
        return False
    with medium.open(posixpath.join(directory, name)) as file:
        text = file.read(_MARKER_MAX).decode("utf-8-sig", errors="replace")
    try:
        return only(medium, directory, text)
    except (ValueError, RecursionError):
        return False  # reported when it is built


def _only_lists_tools(_medium: Medium, _directory: str, text: str) -> bool:
    """Whether package.json has dependencies for developers, and nothing that could be built."""
    found = json.loads(text)
    if not isinstance(found, dict):
        return False
    scripts = found.get("scripts")
    builds = isinstance(scripts, dict) and "build" in scripts
    return "devDependencies" in found and not builds and not _PACKAGE_FIELDS & found.keys()


def _only_configures_tools(medium: Medium, directory: str, text: str) -> bool:
    """Whether pyproject.toml has sections for tools only."""
    found = tomllib.loads(text)
    tools = found.get("tool")
    package = {"project", "build-system"} & found.keys()
    if package or not isinstance(tools, dict) or _PACKAGING_TOOLS & tools.keys():
        return False
    return not _has(medium, directory, "setup.cfg")


def _wails_3(medium: Medium, directory: str) -> str:
    """The Taskfile of a Wails 3 project, which has no wails.json; empty for other projects."""
    taskfile = next((name for name in _TASKFILES if _has(medium, directory, name)), "")
    if not taskfile or not _has(medium, directory, "go.mod"):
        return ""
    with medium.open(posixpath.join(directory, "go.mod")) as file:
        text = file.read(_MARKER_MAX).decode(errors="replace")
    return taskfile if _WAILS_3.search(text) else ""


def _linuxkit_template(medium: Medium, directory: str) -> str:
    where = posixpath.join(directory, _LINUXKIT_DIR)
    if not medium.is_dir(where):
        return ""
    names = [name for name in medium.list(where) if name.endswith((".yml", ".yaml"))]
    found = next((name for name in names if _has(medium, where, name)), "")
    return found and f"{_LINUXKIT_DIR}/{found}"
