"""Front ends and other Node.js projects."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.project_files import read_json, table, text
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArtifactMissingError, ConfigError
from core_infra.build._sources.search import is_vendored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_TIMEOUT = 120.0
OUTPUTS = ("dist", "build", "out", ".output", "_site")
"""The output directories of bundlers."""


class Manager(NamedTuple):
    """A package manager.

    Attributes:
        name: the name of its program.
        locks: its lock files.
        frozen: the arguments to install exactly what the lock file lists.
        loose: the arguments to install without a lock file.
        todo: how to install the package manager.
    """

    name: str
    locks: tuple[str, ...]
    frozen: tuple[str, ...]
    loose: tuple[str, ...]
    todo: str


_NPM = ("--include=dev", "--no-audit", "--no-fund")
_COREPACK = "Run 'corepack enable', or install it from npm."
MANAGERS = (
    Manager(
        "bun",
        ("bun.lock", "bun.lockb"),
        ("install", "--frozen-lockfile"),
        ("install",),
        "Install Bun: https://bun.sh.",
    ),
    Manager(
        "pnpm",
        ("pnpm-lock.yaml",),
        ("install", "--frozen-lockfile", "--prod=false"),
        ("install", "--no-frozen-lockfile", "--prod=false"),
        _COREPACK,
    ),
    Manager("yarn", ("yarn.lock",), ("install", "--immutable"), ("install",), _COREPACK),
    Manager(
        "npm",
        ("package-lock.json", "npm-shrinkwrap.json"),
        ("ci", *_NPM),
        ("install", *_NPM),
        "Install Node.js: https://nodejs.org.",
    ),
)
"""In the order in which their lock files are searched."""


class NodeBuilder(Builder):
    """Installs packages, then runs the script ``build``; its output directory is the artifact.

    A package of a workspace may be built by the workspace's script, and one with ``files`` by none.

    The field ``packageManager``, else the lock file, determines bun, pnpm, yarn or npm. The script
    gets ``OUTPUT_DIR``. If that is empty afterwards, the artifact is ``dist``, ``build``, ``out``,
    ``.output`` or ``_site``; else the ``files`` of package.json, which npm would publish. If
    ``node_modules`` is part of the sources, it is used as it is.
    """

    name = "node"
    source_directories = frozenset({"node_modules"})

    def default_targets(self) -> list[Target]:
        """None: the artifact is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The package's name without its scope."""
        return text(read_json(project_dir / "package.json"), "name").rpartition("/")[2]

    def own_version(self, project_dir: Path) -> str:
        """The package's version; none if it is private, with the placeholder 0.0.0."""
        package = read_json(project_dir / "package.json")
        version = text(package, "version")
        return "" if package.get("private") and version == "0.0.0" else version

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step: a front end runs on every system."""
        del targets
        package = own = read_json(context.project_dir / "package.json")
        root = workspace_root(context.project_dir)
        top = package if root == context.project_dir else read_json(root / "package.json")
        if "packageManager" not in package:
            package = {**top, **package}
        manager = choose_manager(root, package)
        copy = context.copy("any")
        output = context.staging("any")
        env = {"OUTPUT_DIR": str(output / context.name), "npm_config_update_notifier": "false"}
        place, script = _script(own, top, copy, Path(os.path.relpath(root, context.project_dir)))
        run = (manager.name, "run", script, *_separated(manager, extra_flags(context)))
        commands = [Command(run, place, env)] if script else []
        if not is_vendored(context.project_dir, "node_modules"):
            install = install_command(root, package, manager)
            commands.insert(0, Command(install, place, env))
        step = Step(
            name="any",
            target=None,
            commands=tuple(commands),
            output=output,
            copy=copy,
        )
        node = Tool("node", ("node", "--version"), "Install Node.js: https://nodejs.org.")
        tool = Tool(manager.name, (manager.name, "--version"), manager.todo)
        tools = (tool,) if manager.name == "bun" else (node, tool)
        problems = () if script or "files" in own or _is_plain(own) else (_no_script(context),)
        return BuilderPlan((step,), tools, problems)

    def outside(self, project_dir: Path) -> list[Path]:
        """The workspace, and the packages of ``file:`` and ``link:`` dependencies."""
        return list(_local_packages(project_dir))

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move the script's output directory, unless it used OUTPUT_DIR."""
        target = step.output / context.name
        if target.is_dir() and any(target.iterdir()):
            return
        assert step.copy is not None  # noqa: S101 - planned above
        # A directory that is in the copy from the start may contain sources only.
        found = [name for name in OUTPUTS if _was_filled(step.copy / name, context.epoch)]
        found.sort(key=lambda name: (context.project_dir / name).is_dir() and name != "dist")
        shutil.rmtree(target, ignore_errors=True)
        if found:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(step.copy / found[0], target)
        elif not _take_published(step.copy, target):
            raise ArtifactMissingError(
                f"the script build of {context.project_dir} made no artifacts",
                why=f"OUTPUT_DIR and {', '.join(OUTPUTS)} are empty or missing, "
                "and package.json has no 'files'",
                todo="Change the script to write to the directory in the variable OUTPUT_DIR.",
            )


def choose_manager(project_dir: Path, package: dict[str, object]) -> Manager:
    """The package manager of a project."""
    wanted = text(package, "packageManager").partition("@")[0]
    by_name = {manager.name: manager for manager in MANAGERS}
    if wanted in by_name:
        return by_name[wanted]
    by_lock = (manager for manager in MANAGERS if _lock(project_dir, manager))
    return next(by_lock, by_name["npm"])


def install_command(
    project_dir: Path, package: dict[str, object], manager: Manager
) -> tuple[str, ...]:
    """The command that installs a project's packages."""
    if not _lock(project_dir, manager):
        return (manager.name, *manager.loose)
    classic = text(package, "packageManager").startswith("yarn@1") or (
        not (project_dir / ".yarnrc.yml").exists() and "packageManager" not in package
    )
    if manager.name == "yarn" and classic:
        return ("yarn", "install", "--frozen-lockfile", "--non-interactive")
    return (manager.name, *manager.frozen)


def _lock(project_dir: Path, manager: Manager) -> bool:
    return any((project_dir / name).is_file() for name in manager.locks)


def workspace_root(project_dir: Path) -> Path:
    """The directory with the lock file: the package's, or that of the workspace it is in."""
    for directory in (project_dir, *project_dir.parents):
        if any(_lock(directory, manager) for manager in MANAGERS):
            return (
                directory if directory == project_dir or _is_workspace(directory) else project_dir
            )
        if _is_workspace(directory):
            return directory
    return project_dir


def _is_workspace(directory: Path) -> bool:
    if (directory / "pnpm-workspace.yaml").is_file():
        return True
    try:
        return "workspaces" in read_json(directory / "package.json")
    except (ConfigError, OSError):
        return False


def _local_packages(project_dir: Path) -> Iterator[Path]:
    root = workspace_root(project_dir)
    if root != project_dir:
        yield root
    waiting, seen = [project_dir], {project_dir}
    while waiting:
        directory = waiting.pop()
        package = read_json(directory / "package.json")
        for kind in ("dependencies", "devDependencies", "optionalDependencies"):
            for value in table(package, kind).values():
                scheme, colon, path = (
                    value.partition(":") if isinstance(value, str) else ("", "", "")
                )
                inner = Path(os.path.normpath(directory / path))
                if colon and scheme in {"file", "link", "portal"} and inner not in seen:
                    seen.add(inner)
                    if inner.exists():
                        yield inner
                    if inner.is_dir():
                        waiting.append(inner)


def _separated(manager: Manager, flags: tuple[str, ...]) -> tuple[str, ...]:
    # Without "--", npm would parse the flags itself.
    return ("--", *flags) if flags and manager.name == "npm" else flags


def _take_published(copy: Path, target: Path) -> bool:
    """Move the ``files`` of package.json, as npm reads them: paths, directories and patterns."""
    if (listed := _packed_by_npm(copy)) is not None:
        return _take(listed, copy, target)
    named = read_json(copy / "package.json").get("files")
    texts = (
        [one.removesuffix("/**") for one in named if isinstance(one, str)]
        if isinstance(named, list)
        else []
    )
    patterns = [one.removeprefix("./").strip("/") for one in texts]
    if any(".." in pattern.split("/") for pattern in patterns):
        return False
    # Path.glob raises an error for an invalid pattern.
    found = {name for one in patterns for name in glob.glob(one, root_dir=copy)}  # noqa: PTH207
    for name in sorted(found - {""}):
        if (copy / name).exists():  # else it was moved with its directory
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(copy / name, target / name)
    if found:
        shutil.copy2(copy / "package.json", target)
    return bool(found)


def _packed_by_npm(copy: Path) -> list[str] | None:
    """The files that ``npm pack`` would pack; None if npm is not installed or refuses.

    Nothing if package.json does not limit them, but has a script: the files of the project are not
    its result.
    """
    package = read_json(copy / "package.json")
    limited = isinstance(package.get("files"), list)
    if not (limited or _is_plain(package)) or shutil.which("npm") is None:
        return None
    argv = ["npm", "pack", "--dry-run", "--json", "--ignore-scripts", "--offline"]
    done = subprocess.run(
        argv, cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT
    )
    try:
        found = json.loads(done.stdout)
        package = next(iter(found.values() if isinstance(found, dict) else found))
        return [one["path"] for one in package["files"]]
    except (ValueError, LookupError, TypeError, StopIteration):
        return None


_ALWAYS = re.compile(r"(?:package\.json|(?:readme|licen[cs]e|copying)(?:\..*)?)", re.IGNORECASE)
"""What npm packs whether package.json names it or not."""


def _take(names: list[str], copy: Path, target: Path) -> bool:
    if all(_ALWAYS.fullmatch(name) for name in names):
        return False
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(copy / name, target / name)
    return True


def _was_filled(directory: Path, epoch: int) -> bool:
    """Whether a file in a directory is not from the copy, where all have one time."""
    return any(path.is_file() and path.stat().st_mtime != epoch for path in directory.rglob("*"))


def _script(
    own: dict[str, object], top: dict[str, object], copy: Path, root: Path
) -> tuple[Path, str]:
    """The script that builds a package, and where: its own, or the one of its workspace.

    Args:
        own: the package.json of the package.
        top: that of the workspace, or the same.
        copy: the package in the copy of the sources.
        root: the path of the workspace, relative to the package.
    """
    for script in ("build", "prepack"):  # npm runs prepack before it packs
        if script in table(own, "scripts"):
            return copy, script
        if script == "build" and script in table(top, "scripts"):
            return Path(os.path.normpath(copy / root)), script
    return copy, ""


def _is_plain(package: dict[str, object]) -> bool:
    """Whether a package is published as it is: all files that neither git nor npm ignores."""
    scripts = table(package, "scripts")
    built = "files" in package or any(name in scripts for name in ("build", "prepack"))
    return not built and not package.get("private") and bool(text(package, "version"))


def _no_script(context: BuildContext) -> str:
    return f"{context.project_dir / 'package.json'} has no script 'build', and no 'files'"
