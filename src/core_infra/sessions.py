"""Nox sessions for your own noxfile, one line each.

::

    import nox
    from core_infra import sessions

    nox.session(sessions.tests)
    nox.session(sessions.release, default=False)

Each is an undecorated function that takes a session: register it with the Python versions, the name
and the tags that you like, or call it from a session of yours. What follows ``--`` on nox's command
line goes to the program that the session runs.

Sessions install into their own environment the very core-infra that nox has: the same version, or
from the same checkout, archive or commit. A project whose dependency group pins another one gets
that. They read ``pyproject.toml``, if there is one, for dependency groups; a project needs none.

This module needs nothing but nox itself, whose environment may have little else.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import nox

TEST_GROUPS = ("tests", "test", "dev")
"""Dependency groups that ``tests`` installs: the first of these that the project has."""

LINT_GROUPS = ("lint", "dev")
"""Dependency groups that ``lint`` installs: the first of these that the project has."""

RELEASE_GROUPS = ("release", "build", "docs")
"""Dependency groups that ``build``, ``plan`` and ``release`` install: the first of these that the
project has. Themes and plugins of MkDocs belong there."""

_DOCS_REQUIREMENTS = ("docs/requirements.txt", "requirements-docs.txt", "requirements.txt")
"""Where a site without such a group lists its themes and plugins."""

_NOT_TYPED = ("noxfile.py", "build", "dist", "node_modules", "venv")

_NAME = "core-infra"
_ROOT = Path(__file__).parents[2]
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)")
_REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*(.*)")  # a name, extras, the rest


def tests(session: nox.Session) -> None:
    """The test suite; arguments go to pytest."""
    _install_project(session, TEST_GROUPS, "pytest", core_infra=True)
    _run_pytest(session)


def core_vm(session: nox.Session) -> None:
    """The test suite with a real machine for each test that needs one; arguments go to pytest."""
    _install_project(session, TEST_GROUPS, "pytest", core_infra=True)
    _run_pytest(session, "--core-vm")


def images(session: nox.Session) -> None:
    """Build the machines that tests start from, for a CI cache; arguments: images and options.

    Without arguments it is the default image. What is built goes to the directory that the
    environment variable CORE_INFRA_CACHE_DIR names (default: ~/.cache/core-infra).
    """
    _install_tools(session)
    session.run("core-infra", "vm", "images", "--build", *session.posargs)


def tasks(session: nox.Session) -> None:
    """The tasks of tasks.yml; arguments go to core-infra run, as in ``-- tasks.yml test``."""
    _install_tools(session)
    session.run("core-infra", "run", *(session.posargs or ["tasks.yml"]))


def jobs(session: nox.Session) -> None:
    """What the bots of jobs.yaml would do; other arguments go to core-infra jobs, as ``-- run``."""
    _install_tools(session, "jobs")
    session.run("core-infra", "jobs", *(session.posargs or ["dry-run"]))


def lint(session: nox.Session) -> None:
    """Style and types: ruff, and mypy if the project configures it; arguments go to ruff."""
    types = _mypy_settings()
    if types is not None:
        # With what tests import, so that mypy finds it.
        _install_project(session, LINT_GROUPS, "ruff", "mypy", core_infra=True)
    elif _can_install(session):
        session.install(*_first_group(LINT_GROUPS), "ruff")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    if types is not None:
        known = {"files", "packages", "modules"} & types.keys()
        session.run("mypy", *([] if known else _typed_paths()))


def build(session: nox.Session) -> None:
    """Build the project into dist; arguments go to core-infra build."""
    _install_tools(session, "build")
    session.run("core-infra", "build", *session.posargs)


def plan(session: nox.Session) -> None:
    """What a release would do and what is missing for it; arguments go to core-infra release."""
    _install_tools(session, "build")
    session.run("core-infra", "release", "--plan", *session.posargs)


def release(session: nox.Session) -> None:
    """A release in dist, built twice and compared; arguments go to core-infra release.

    With ``-- --dry-run`` it shows the plan only. Nothing is published.
    """
    _install_tools(session, "build")
    session.run("core-infra", "release", "--no-dry-run", "--twice", *session.posargs)


def verify(session: nox.Session) -> None:
    """Check the release in dist as a downloader would; arguments go to core-infra verify."""
    _install_tools(session, "build")
    session.run("core-infra", "verify", *(session.posargs or ["dist"]))


def requirement(*extras: str) -> str:
    """Return what pip installs to have the core-infra that is imported here.

    Its version; or, if it was not installed from an index, the checkout, archive or commit that it
    came from (https://packaging.python.org/en/latest/specifications/direct-url).

    Args:
        extras: optional dependencies, like ``build``.
    """
    name = f"{_NAME}[{','.join(extras)}]" if extras else _NAME
    try:
        found = importlib.metadata.distribution(_NAME)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} @ {_ROOT.as_uri()}"  # imported from a checkout that is not installed
    origin = found.read_text("direct_url.json")
    return f"{name} @ {_direct_url(json.loads(origin))}" if origin else f"{name}=={found.version}"


def _direct_url(origin: dict[str, Any]) -> str:
    """The URL for pip: a commit and not a branch, a digest if there is one."""
    url, fragments = str(origin["url"]), []
    if control := origin.get("vcs_info"):
        # Before version 24, pip takes no URL without a host here.
        url = re.sub("^file:///", "file://localhost/", url)
        url = f"{control['vcs']}+{url}@{control['commit_id']}"
    archive = origin.get("archive_info") or {}
    if digest := (archive.get("hashes") or {}).get("sha256"):
        fragments.append(f"sha256={digest}")
    elif digest := archive.get("hash"):  # as pip wrote it before version 23.1
        fragments.append(digest)
    if folder := origin.get("subdirectory"):
        fragments.append(f"subdirectory={folder}")
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _install_tools(session: nox.Session, *extras: str) -> None:
    if not _can_install(session):
        return
    packages: list[str] = []
    if "build" in extras:
        # The builders of Python packages and of documentation run these.
        packages += ["build"] if _is_python() else []
        grouped = _first_group(RELEASE_GROUPS)
        packages += grouped
        if _has_site():
            packages.append("mkdocs")
    listed = _docs_requirements() if "mkdocs" in packages and not grouped else ""
    with tempfile.TemporaryDirectory(prefix="core-infra-") as directory:
        if listed:
            packages += ["-r", _without_pins(listed, _needed(_NAME, *extras), directory)]
        session.install(requirement(*extras), *packages)


def _has_site() -> bool:
    return any(Path(name).is_file() for name in ("mkdocs.yml", "mkdocs.yaml"))


def _docs_requirements() -> str:
    return next((name for name in _DOCS_REQUIREMENTS if Path(name).is_file()), "")


def _without_pins(file: str, needed: set[str], directory: str) -> str:
    """A requirements file without the packages that core-infra needs, in another version maybe.

    The file is often for all developers of the project, and a site needs no ``pytest==8.3.5``.
    """
    lines = re.sub(r"\\\r?\n", " ", Path(file).read_text("utf-8")).splitlines()
    kept = [
        line
        for line in lines
        if not (match := _REQUIREMENT.match(line)) or _normal(match[1]) not in needed
    ]
    if kept == lines:
        return file
    top = Path(file).absolute().parent
    included = re.compile(r"^\s*(-r|--requirement|-c|--constraint)[\s=]+(?=[^/\s])")
    texts = [included.sub(lambda match: f"{match[1]} {top}/", line) for line in kept]
    path = Path(directory, "requirements.txt")
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return str(path)


def _needed(name: str, *extras: str) -> set[str]:
    """The names of the packages that an installed one needs, and what these need."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        one, wanted = waiting.pop()
        try:
            lines = importlib.metadata.requires(one) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in lines:
            extra = _EXTRA.search(line)
            match = _REQUIREMENT.match(line)
            inner = _normal(match[1]) if match else ""
            if inner and inner not in found and (not extra or extra[1] in wanted):
                found.add(inner)
                waiting.append((inner, ()))
    return found


def _install_project(
    session: nox.Session, groups: Sequence[str], *needed: str, core_infra: bool = False
) -> None:
    if not _can_install(session):
        return
    requirements = _first_group(groups)
    if core_infra and not _brings_core_infra(requirements):
        requirements.append(requirement())
    # At once, so that pip finds what goes together.
    session.install(*(["-e", "."] if _is_python() else []), *requirements, *needed)


def _brings_core_infra(requirements: Sequence[str]) -> bool:
    """Whether the project is core-infra itself, or pins a version of core-infra."""
    if _normal(str(_pyproject().get("project", {}).get("name", ""))) == _NAME:
        return True
    split = [match.groups() for line in requirements if (match := _REQUIREMENT.match(line))]
    return any(_normal(name) == _NAME and rest.startswith(("==", "@")) for name, rest in split)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _first_group(names: Sequence[str]) -> list[str]:
    """The requirements of the first of some dependency groups that the project has."""
    known = _pyproject().get("dependency-groups", {})
    group = next((name for name in names if name in known), None)
    # Through nox, because pip knows groups from version 25.1 on only.
    return _dependency_group(group) if group else []


def _dependency_group(name: str) -> list[str]:
    import nox.project  # noqa: PLC0415 - only nox calls this, and it has it

    return list(nox.project.dependency_groups(_pyproject(), name))


def _run_pytest(session: nox.Session, *arguments: str) -> None:
    # On Ctrl-C pytest needs the time to stop what it has started.
    session.run("pytest", *arguments, *session.posargs, interrupt_timeout=30, terminate_timeout=10)


def _can_install(session: nox.Session) -> bool:
    """Whether the session has its own environment; if not, everything must be installed already."""
    return session.venv_backend != "none"


def _pyproject() -> dict[str, Any]:
    # nox runs sessions in the directory of the noxfile.
    path = Path("pyproject.toml")
    return tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}


def _is_python() -> bool:
    """Whether pip can install the project: pyproject.toml may also configure tools only."""
    document = _pyproject()
    described = {"project", "build-system"} & document.keys() or "poetry" in document.get(
        "tool", {}
    )
    return bool(described) or any(Path(name).is_file() for name in ("setup.py", "setup.cfg"))


def _mypy_settings() -> Mapping[str, Any] | None:
    """The project's settings for mypy, from the file that mypy reads; None if there are none."""
    for name in ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg"):
        if name == "pyproject.toml":
            if "mypy" in (tools := _pyproject().get("tool", {})):
                return dict(tools["mypy"])
        elif Path(name).is_file():
            parser = configparser.RawConfigParser()
            parser.read(name, "utf-8")
            if parser.has_section("mypy"):
                return dict(parser["mypy"])
    return None


def _typed_paths() -> list[str]:
    """What mypy checks if its settings do not say: all but noxfile.py, whose nox is elsewhere."""
    paths = [
        path.name
        for path in sorted(Path().iterdir())
        if not path.name.startswith(".") and path.name not in _NOT_TYPED
    ]
    return [
        name
        for name in paths
        if name.endswith(".py") or next(Path(name).glob("**/*.py"), None) is not None
    ] or ["."]
