"""Front ends and other Node.js projects."""

from __future__ import annotations

import glob
import shutil
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.project_files import read_json, table, text
from core_infra.build._builders.sources import is_vendored
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

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

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step: a front end runs on every system."""
        del targets
        package = read_json(context.project_dir / "package.json")
        manager = choose_manager(context.project_dir, package)
        copy = context.scratch("any") / "source"
        output = context.staging("any")
        env = {"OUTPUT_DIR": str(output / context.name), "npm_config_update_notifier": "false"}
        build = (manager.name, "run", "build", *_separated(manager, extra_flags(context)))
        commands = [Command(build, copy, env)]
        if not is_vendored(context.project_dir, "node_modules"):
            install = install_command(context.project_dir, package, manager)
            commands.insert(0, Command(install, copy, env))
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
        problems = () if "build" in table(package, "scripts") else (_no_script(context),)
        return BuilderPlan((step,), tools, problems)

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move the script's output directory, unless it used OUTPUT_DIR."""
        target = step.output / context.name
        if target.is_dir() and any(target.iterdir()):
            return
        assert step.copy is not None  # noqa: S101 - planned above
        # A directory that exists in the project may contain sources.
        found = [name for name in OUTPUTS if _has_files(step.copy / name)]
        found.sort(key=lambda name: (context.project_dir / name).is_dir() and name != "dist")
        shutil.rmtree(target, ignore_errors=True)
        if found:
            (step.copy / found[0]).rename(target)
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


def _separated(manager: Manager, flags: tuple[str, ...]) -> tuple[str, ...]:
    # Without "--", npm would parse the flags itself.
    return ("--", *flags) if flags and manager.name == "npm" else flags


def _take_published(copy: Path, target: Path) -> bool:
    """Move the ``files`` of package.json, as npm reads them: paths, directories and patterns."""
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
            (copy / name).rename(target / name)
    if found:
        shutil.copy2(copy / "package.json", target)
    return bool(found)


def _has_files(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _no_script(context: BuildContext) -> str:
    return f"{context.project_dir / 'package.json'} has no script 'build'"
