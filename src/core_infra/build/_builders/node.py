"""Front ends and other projects of Node.js."""

from __future__ import annotations

import glob
import shutil
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.project_files import read_json, table, text
from core_infra.build._builders.sources import is_vendored
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config

OUTPUTS = ("dist", "build", "out", ".output", "_site")
"""Where bundlers leave what is to be shipped."""


class Manager(NamedTuple):
    """A package manager.

    Attributes:
        name: what it is called on PATH.
        locks: the files by which it is recognized.
        frozen: how it installs what a lock file says, and nothing else.
        loose: how it installs without a lock file.
        todo: how to get it.
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
"""In the order in which their lock files are looked for."""


class NodeBuilder(Builder):
    """Install, then the script ``build``; the folder that it fills is the artifact.

    The field ``packageManager`` chooses bun, pnpm, yarn or npm, else the lock file does. The script
    is told ``OUTPUT_DIR``; if it leaves that empty, the folder is ``dist``, ``build``, ``out``,
    ``.output`` or ``_site``; else what ``files`` in package.json names, which is what npm would
    publish. A ``node_modules`` that came with the sources is used as it is.
    """

    name = "node"
    keeps = frozenset({"node_modules"})

    def default_targets(self) -> list[Target]:
        """None: what it makes is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The package's name without its scope."""
        return text(read_json(project_dir / "package.json"), "name").rpartition("/")[2]

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step: what a front end is made of runs on every system."""
        del targets
        package = read_json(config.project_dir / "package.json")
        manager = choose_manager(config.project_dir, package)
        copy = config.scratch("any") / "source"
        output = config.staging("any")
        env = {"OUTPUT_DIR": str(output / config.name), "npm_config_update_notifier": "false"}
        build = (manager.name, "run", "build", *_separated(manager, extra_flags(config)))
        commands = [Command(build, copy, env)]
        if not is_vendored(config.project_dir, "node_modules"):
            install = install_command(config.project_dir, package, manager)
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
        problems = () if "build" in table(package, "scripts") else (_no_script(config),)
        return Work((step,), tools, problems)

    def gather(self, config: Config, step: Step) -> None:
        """Move the folder that the script filled, unless it took OUTPUT_DIR."""
        target = step.output / config.name
        if target.is_dir() and any(target.iterdir()):
            return
        assert step.copy is not None  # noqa: S101 - planned above
        # A folder that came with the sources may be one of sources.
        found = [name for name in OUTPUTS if _has_files(step.copy / name)]
        found.sort(key=lambda name: (config.project_dir / name).is_dir() and name != "dist")
        shutil.rmtree(target, ignore_errors=True)
        if found:
            (step.copy / found[0]).rename(target)
        elif not _take_published(step.copy, target):
            raise ArtifactMissingError(
                f"the script build of {config.project_dir} has made nothing",
                why=f"neither OUTPUT_DIR nor any of {', '.join(OUTPUTS)} has a file, "
                "and package.json has no 'files'",
                todo="Let it write to the directory that the variable OUTPUT_DIR names.",
            )


def choose_manager(project_dir: Path, package: dict[str, object]) -> Manager:
    """The package manager that a project wants."""
    wanted = text(package, "packageManager").partition("@")[0]
    by_name = {manager.name: manager for manager in MANAGERS}
    if wanted in by_name:
        return by_name[wanted]
    by_lock = (manager for manager in MANAGERS if _lock(project_dir, manager))
    return next(by_lock, by_name["npm"])


def install_command(
    project_dir: Path, package: dict[str, object], manager: Manager
) -> tuple[str, ...]:
    """How a project's packages are installed."""
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
    # npm would take flags for its own.
    return ("--", *flags) if flags and manager.name == "npm" else flags


def _take_published(copy: Path, target: Path) -> bool:
    """Move what ``files`` in package.json names, as npm reads it: paths, folders and patterns."""
    named = read_json(copy / "package.json").get("files")
    texts = (
        [one.removesuffix("/**") for one in named if isinstance(one, str)]
        if isinstance(named, list)
        else []
    )
    patterns = [one.removeprefix("./").strip("/") for one in texts]
    if any(".." in pattern.split("/") for pattern in patterns):
        return False
    # Path.glob raises an error for what is no pattern.
    found = {name for one in patterns for name in glob.glob(one, root_dir=copy)}  # noqa: PTH207
    for name in sorted(found - {""}):
        if (copy / name).exists():  # else it went with its folder
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).rename(target / name)
    if found:
        shutil.copy2(copy / "package.json", target)
    return bool(found)


def _has_files(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _no_script(config: Config) -> str:
    return f"{config.project_dir / 'package.json'} has no script 'build'"
