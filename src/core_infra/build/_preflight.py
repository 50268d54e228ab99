"""Inspects a project and this host before anything is built, and makes the plan."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra._host import processors
from core_infra.build._archives.contents import VARIABLE, source_date_epoch
from core_infra.build._builders.hooks import hook_problems
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._builders.sources import sources_of
from core_infra.build._builders.steps import BuildContext
from core_infra.build._builders.workspace import check_output
from core_infra.build._config.load import MISSPELT_CONFIG, config_path, load_config
from core_infra.build._config.settings import DEFAULT_TARGETS
from core_infra.build._config.values import reserved_on_windows
from core_infra.build._packages.packages import package_problems, package_tools
from core_infra.build._plan import BuildPlan, Goal, Packing
from core_infra.build._project import ProjectType, explain
from core_infra.build._release_rules import release_problems, snapshot_version
from core_infra.build._requirements import check_keys, disk_space, find_tools, missing_packages
from core_infra.build._signing.choose import Signers, choose_signers
from core_infra.build._sources.history import History, read_history
from core_infra.errors import NotFoundError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder
    from core_infra.build._config.settings import BuildConfig


def make_plan(
    project: str | os.PathLike[str] = ".",
    *,
    goal: Goal | str = Goal.BUILD,
    packing: Packing | None = None,
    output: str | os.PathLike[str] | None = None,
    targets: Iterable[Target] = (),
    type: ProjectType | None = None,  # noqa: A002 - what it is called in build.yaml
    builder: Builder | None = None,
    name: str = "",
    version: str = "",
    snapshot: bool = False,
    threads: int | None = None,
    launcher: tuple[str, ...] = (),
) -> BuildPlan:
    """Inspect a project and this host, and return the plan of a build; nothing is written.

    Args:
        project: the project's directory.
        goal: how far to go: "build", "package" or "release".
        packing: how artifacts are archived.
        output: the output directory; by default ``dist`` in the project.
        targets: the platforms; by default those of ``.core/build.yaml``, else the builder's: four
            common ones for Go, this host for others.
        type: the type of project; by default the one in ``.core/build.yaml``, else discovered.
        builder: the builder; by default the one for the type.
        name: the base name of artifacts; by default the project's name.
        version: the version of the artifacts; by default derived from the project's git tags, and
            for a release without them, that in the project's own file.
        snapshot: whether a release may be of uncommitted sources, or without a tag: its version
            has the commit, as in ``v1.2.3-snapshot.abcdef0.dirty``.
        threads: how many processors to use; by default all that this process may use.
        launcher: a program that starts the programs of the build, with arguments: ``nice -n 10``.

    Raises:
        NotFoundError: the directory does not exist, or is not a project of a known type.
        ConfigError: ``.core/build.yaml`` or the project's own file is malformed.
        InvalidError: the output directory contains the project.
        CoreInfraError: a file cannot be read.
    """
    where = _directory(project)
    settings = load_config(LocalMedium(where), ".")
    kind = _kind(where, settings, type)
    builder = builder or BUILDERS[kind.type]
    chosen = tuple(dict.fromkeys(targets)) or _targets(settings, builder)
    cpus = threads or processors()
    output_dir = where / "dist" if output is None else Path(output).absolute()
    history = read_history(where, prefix=settings.project.tag_prefix, output=output_dir)
    goal, own = Goal(goal), builder.own_version(where)
    version = version or history.version or (own if goal is Goal.RELEASE else "")
    refused = []
    if goal is Goal.RELEASE and snapshot:
        version = snapshot_version(history, version)
    elif goal is Goal.RELEASE:
        refused = release_problems(history, version, own)
    context = BuildContext(
        project_dir=where,
        output_dir=output_dir,
        name=_name(name or settings.project.binary or settings.project.name)
        or _name(builder.default_name(where))
        or _name(where.name)
        or "app",
        version=version,
        commit=history.commit,
        epoch=_epoch(history),
        settings=settings,
        threads=cpus,
        launcher=launcher,
        workers=max(1, min(cpus, len(chosen))),
    )
    check_output(context.project_dir, context.output_dir)
    sources = sources_of(builder, context)
    context = replace(context, inside=sources.inside)
    plan = _inspect_host(
        context,
        builder,
        chosen,
        goal=goal,
        packing=packing or Packing(),
        kind=kind,
        size=sources.size,
    )
    if reserved_on_windows(context.name) and (
        not chosen or any(target.os == "windows" for target in chosen)
    ):
        refused.append(f"Windows cannot have a file {context.name}: set project.name or --name")
    notes = list(plan.notes)
    if (where / MISSPELT_CONFIG).exists():
        notes.append(f"{MISSPELT_CONFIG} is not read: its name must be {config_path('.')}")
    return replace(plan, problems=(*refused, *plan.problems), notes=tuple(notes), snapshot=snapshot)


def _inspect_host(
    context: BuildContext,
    builder: Builder,
    targets: tuple[Target, ...],
    *,
    goal: Goal,
    packing: Packing,
    kind: _Kind,
    size: int,
) -> BuildPlan:
    work = builder.plan(context, targets)
    packages = goal is not Goal.BUILD
    tools = find_tools([*work.tools, *(package_tools(context, targets) if packages else ())])
    problems = [*work.problems, *hook_problems(context, work.steps)]
    problems += package_problems(context, targets) if packages else []
    problems += (tool.problem for tool in tools if tool.problem)
    problems += missing_packages(goal, packing)
    sign = context.settings.sign
    signers = choose_signers(sign) if goal is Goal.RELEASE else Signers()
    keys = check_keys(signers, sign, targets, problems)
    disk = disk_space(context, size, work.steps)
    if disk.free < disk.needed:
        problems.append(
            f"{disk.path} has {disk.free >> 20} MiB free, but {disk.needed >> 20} MiB are needed"
        )
    return BuildPlan(
        goal=goal,
        type=kind.type,
        why=kind.why,
        others=kind.others,
        builder=builder,
        context=context,
        targets=targets,
        steps=work.steps,
        packing=packing,
        tools=tuple(tools),
        signers=signers,
        keys=tuple(keys),
        disk=disk,
        problems=tuple(problems),
        notes=work.notes,
    )


def _directory(project: str | os.PathLike[str]) -> Path:
    where = Path(project).absolute()
    if not where.is_dir():
        raise NotFoundError(f"the directory {where} does not exist", path=str(where))
    return where


class _Kind(NamedTuple):
    """The type of a project, what determined it, and other possible types."""

    type: ProjectType
    why: str
    others: tuple[ProjectType, ...] = ()


def _kind(where: Path, settings: BuildConfig, wanted: ProjectType | None) -> _Kind:
    if wanted is not None:
        return _Kind(ProjectType(wanted), "it was requested")
    if settings.project.type is not None:
        return _Kind(settings.project.type, "project.type in .core/build.yaml")
    findings = explain(LocalMedium(where), ".")
    found = next((finding for finding in findings if finding.found), None)
    if found is None:
        raise NotFoundError(
            f"{where} is not a project of a known type",
            why="; ".join(f"{finding.type}: {finding.why}" for finding in findings),
            todo="Run it in a project's directory, or give one.",
            path=str(where),
        )
    others = [finding.type for finding in findings if finding.found and finding is not found]
    return _Kind(found.type, found.why, tuple(others))


def _targets(settings: BuildConfig, builder: Builder) -> tuple[Target, ...]:
    # Identity, not equality: a project may list the same targets on purpose.
    if settings.targets is DEFAULT_TARGETS:
        return tuple(builder.default_targets())
    return settings.targets


def _name(text: str) -> str:
    # Unlike .core/build.yaml, the project's own file was not checked.
    safe = "".join(char if char.isalnum() or char in "._+-" else "-" for char in text)
    return safe.strip(".-")


def _epoch(history: History) -> int:
    if VARIABLE in os.environ or history.time is None:
        return source_date_epoch()
    return history.time
