"""What a build would do, as data: made and checked before anything is built.

A plan is complete. It has the very commands that are run, and all that is missing for them, so that
nobody has to run a build three times to be told of three tools.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build.builders.builder import Config
from core_infra.build.builders.catalogue import BUILDERS
from core_infra.build.builders.environment import is_secret
from core_infra.build.builders.errors import PreflightError
from core_infra.build.builders.source import commit_time, described_version, tree_size
from core_infra.build.builders.workspace import check_output
from core_infra.build.config import DEFAULT_TARGETS, load_config
from core_infra.build.epoch import VARIABLE, source_date_epoch
from core_infra.build.project import ProjectType, explain
from core_infra.build.tools import FoundTool, find_tools
from core_infra.errors import NotFoundError
from core_infra.medium.local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core_infra.build.artifact import Target
    from core_infra.build.builders.builder import Builder, Command, Step
    from core_infra.build.config import BuildConfig

_RESERVE = 64 << 20
"""Bytes that a step may need besides the copy of the sources: what a small program takes."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The room for artifacts.

    Attributes:
        path: the directory whose file system takes them.
        free: bytes that are free there.
        needed: bytes that are needed at least.
    """

    path: str
    free: int
    needed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build would do.

    Attributes:
        type: the kind of project.
        why: what decided that.
        builder: builds it.
        config: what the builder is told.
        targets: the platforms.
        steps: what is run, one for each target or one for all.
        tools: the programs that are needed.
        disk: the room.
        problems: why it cannot work here; one sentence each, all of them.
    """

    type: ProjectType
    why: str
    builder: Builder
    config: Config
    targets: tuple[Target, ...]
    steps: tuple[Step, ...]
    tools: tuple[FoundTool, ...]
    disk: Disk
    problems: tuple[str, ...]

    def check(self) -> None:
        """Let a plan pass that can work.

        Raises:
            PreflightError: it cannot; the error tells everything that is missing.
        """
        if self.problems:
            raise PreflightError.of(self.config.project_dir, self.problems)

    def as_data(self) -> dict[str, Any]:
        """The plan for JSON; values of variables with a secret's name are left out."""
        config = self.config
        return {
            "project": str(config.project_dir),
            "output": str(config.output_dir),
            "name": config.name,
            "version": config.version,
            "type": str(self.type),
            "why": self.why,
            "epoch": config.epoch,
            "targets": [str(target) for target in self.targets],
            "steps": [
                {
                    "name": step.name,
                    "copy": str(step.copy) if step.copy else None,
                    "commands": [_command_data(command) for command in step.commands],
                }
                for step in self.steps
            ],
            "tools": [
                {"name": tool.name, "path": tool.path or None, "version": tool.version or None}
                for tool in self.tools
            ],
            "disk": {"path": self.disk.path, "free": self.disk.free, "needed": self.disk.needed},
            "problems": list(self.problems),
        }


def make_plan(
    project: str | os.PathLike[str] = ".",
    *,
    output: str | os.PathLike[str] | None = None,
    targets: Iterable[Target] = (),
    type: ProjectType | None = None,  # noqa: A002 - what it is called in build.yaml
    builder: Builder | None = None,
    name: str = "",
    version: str = "",
    threads: int | None = None,
) -> Plan:
    """Look at a project and at this host, and say what building it would take.

    Args:
        project: its directory.
        output: where artifacts go; by default ``dist`` in it.
        targets: the platforms; by default those of ``.core/build.yaml``, else what the kind of
            project can be built for without further ado: Go's for the four usual ones, others for
            this host.
        type: what to build it as; by default what ``.core/build.yaml`` says or is discovered.
        builder: builds it; by default the one for its type.
        name: what the artifacts are called; by default what the project says.
        version: what they are stamped with; by default what git tells from the project's tags.
        threads: how many processors to use; by default all that this process may.

    Raises:
        NotFoundError: there is no such directory, or it is no project of a known kind.
        ConfigError: ``.core/build.yaml`` or the project's own file is malformed.
        InvalidError: the output directory is around the project.
        CoreInfraError: a file cannot be read.
    """
    where = _directory(project)
    settings = load_config(LocalMedium(where), ".")
    kind, why = _kind(where, settings, type)
    builder = builder or BUILDERS[kind]
    chosen = tuple(dict.fromkeys(targets)) or _targets(settings, builder)
    config = _config(
        where,
        output=output,
        settings=settings,
        builder=builder,
        targets=chosen,
        name=name,
        version=version,
        threads=threads,
    )
    check_output(config.project_dir, config.output_dir)
    work = builder.plan(config, chosen)
    tools = find_tools(work.tools)
    disk = _disk(config, work.steps)
    problems = [*work.problems, *(tool.problem for tool in tools if tool.problem)]
    if disk.free < disk.needed:
        problems.append(
            f"{disk.path} has {disk.free >> 20} MiB free, and {disk.needed >> 20} MiB are needed"
        )
    return Plan(kind, why, builder, config, chosen, work.steps, tuple(tools), disk, tuple(problems))


def _directory(project: str | os.PathLike[str]) -> Path:
    where = Path(project).absolute()
    if not where.is_dir():
        raise NotFoundError(f"there is no directory {where}", path=str(where))
    return where


def _kind(
    where: Path, settings: BuildConfig, wanted: ProjectType | None
) -> tuple[ProjectType, str]:
    if wanted is not None:
        return ProjectType(wanted), "it was asked for"
    if settings.project.type is not None:
        return settings.project.type, "project.type in .core/build.yaml says so"
    findings = explain(LocalMedium(where), ".")
    found = next((finding for finding in findings if finding.found), None)
    if found is None:
        raise NotFoundError(
            f"{where} is no project of a kind that is known",
            why="; ".join(f"{finding.type}: {finding.why}" for finding in findings),
            todo="Run it in a project's directory, or name one.",
            path=str(where),
        )
    return found.type, found.why


def _targets(settings: BuildConfig, builder: Builder) -> tuple[Target, ...]:
    # Not what is equal to the default: a project may say it on purpose.
    if settings.targets is DEFAULT_TARGETS:
        return tuple(builder.default_targets())
    return settings.targets


def _config(
    where: Path,
    *,
    output: str | os.PathLike[str] | None,
    settings: BuildConfig,
    builder: Builder,
    targets: Sequence[Target],
    name: str,
    version: str,
    threads: int | None,
) -> Config:
    cpus = threads or len(os.sched_getaffinity(0))
    workers = max(1, min(cpus, len(targets)))
    return Config(
        project_dir=where,
        output_dir=where / "dist" if output is None else Path(output).absolute(),
        name=_name(name or settings.project.binary or settings.project.name)
        or _name(builder.default_name(where))
        or _name(where.name)
        or "app",
        version=version or described_version(where),
        epoch=_epoch(where),
        settings=settings,
        jobs=max(1, cpus // workers),
        workers=workers,
    )


def _name(text: str) -> str:
    # What a project's own file says was not checked as .core/build.yaml is.
    safe = "".join(char if char.isalnum() or char in "._+-" else "-" for char in text)
    return safe.strip(".-")


def _epoch(where: Path) -> int:
    if VARIABLE in os.environ:
        return source_date_epoch()
    time = commit_time(where)
    return source_date_epoch({}) if time is None else time


def _disk(config: Config, steps: Sequence[Step]) -> Disk:
    copies = sum(step.copy is not None for step in steps)
    size = tree_size(config.project_dir, config.output_dir) if copies else 0
    path = config.output_dir
    while not path.exists():
        path = path.parent
    needed = copies * size + len(steps) * _RESERVE
    return Disk(str(path), shutil.disk_usage(path).free, needed)


def _command_data(command: Command) -> dict[str, Any]:
    shown = {name: "***" if is_secret(name) else value for name, value in command.env.items()}
    return {
        "argv": list(command.argv),
        "dir": str(command.dir),
        "env": shown,
        "shell": shlex.join(command.argv),
    }
