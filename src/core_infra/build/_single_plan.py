"""Inspects one build of a project and this host, and makes the plan of the build."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._archive_rules import missing_files
from core_infra.build._archives.contents import VARIABLE, source_date_epoch
from core_infra.build._builders.hooks import hook_problems
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._builders.sources import sources_of
from core_infra.build._builders.steps import BuildContext, Whole
from core_infra.build._builders.workspace import check_output
from core_infra.build._config.load import MISSPELT_CONFIG, config_path
from core_infra.build._config.settings import DEFAULT_TARGETS
from core_infra.build._config.values import reserved_on_windows
from core_infra.build._packages.packages import package_problems, package_tools
from core_infra.build._plan import BuildPlan, Goal, Packing
from core_infra.build._project import ProjectType, explain
from core_infra.build._release_rules import release_problems, release_version, snapshot_version
from core_infra.build._requirements import check_keys, disk_space, find_tools, missing_packages
from core_infra.build._signing.choose import Signers, choose_signers
from core_infra.build._sources.history import History, read_history
from core_infra.errors import NotFoundError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder
    from core_infra.build._config.settings import BuildConfig


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be built; see :func:`core_infra.build.make_plan`.

    Attributes:
        split: what a part of a release is made for: ``os/arch``, ``os`` or ``any``; empty for all.
    """

    goal: Goal
    packing: Packing
    targets: tuple[Target, ...] = ()
    type: ProjectType | None = None
    builder: Builder | None = None
    name: str = ""
    version: str = ""
    snapshot: bool = False
    threads: int = 1
    launcher: tuple[str, ...] = ()
    split: tuple[str, ...] = ()


class Beginning(NamedTuple):
    """What is known of a build before this host is inspected.

    Attributes:
        kind: the type of project.
        builder: its builder.
        targets: the platforms.
        context: the input of the builder.
        refused: why a release cannot be made of it, one sentence each.
        size: the size of the sources, in bytes.
    """

    kind: Kind
    builder: Builder
    targets: tuple[Target, ...]
    context: BuildContext
    refused: list[str]
    size: int


def begin(
    request: Request, where: Path, settings: BuildConfig, output: Path, whole: Whole | None = None
) -> Beginning:
    """Find out what a build is of: type, targets, version, sources.

    Args:
        request: what is to be built.
        where: the directory of the build.
        settings: its configuration.
        output: its output directory.
        whole: the project, if it is one of its several builds.

    Raises:
        CoreInfraError: as :func:`core_infra.build.make_plan` does.
    """
    kind = kind_of(where, settings, request.type)
    builder = request.builder or BUILDERS[kind.type]
    targets = request.targets or _targets(settings, builder)
    home, outputs = (whole.project_dir, whole.output_dir) if whole else (where, output)
    history = read_history(home, prefix=settings.project.tag_prefix, output=outputs)
    own = builder.own_version(where)
    context = replace(
        context_of(
            request,
            where,
            settings,
            output,
            history,
            own=own,
            names=(
                request.name or settings.project.binary or settings.project.name,
                builder.default_name(where),
            ),
        ),
        workers=max(1, min(request.threads, len(targets))),
        whole=whole,
    )
    refused = []
    if request.goal is Goal.RELEASE and not request.snapshot:
        refused = release_problems(history, context.version, own)
    check_output(context.project_dir, context.outputs)
    sources = sources_of(builder, context)
    context = replace(context, inside=sources.inside)
    return Beginning(kind, builder, targets, context, refused, sources.size)


def context_of(
    request: Request,
    where: Path,
    settings: BuildConfig,
    output: Path,
    history: History,
    *,
    own: str,
    names: tuple[str, ...],
) -> BuildContext:
    """The input of a builder, or of a release of several builds.

    Args:
        request: what is to be built.
        where: the directory of the build or the project.
        settings: its configuration.
        output: its output directory.
        history: its repository.
        own: the version in its own file, which a release without a tag has.
        names: the names that it may have; the first that is not empty counts.
    """
    version = request.version or history.version
    if request.goal is Goal.RELEASE:
        version = request.version or release_version(history.version, own)
        version = snapshot_version(history, version) if request.snapshot else version
    fit = map(file_name, (*names, where.name))
    return BuildContext(
        project_dir=where,
        output_dir=output,
        name=next(filter(None, fit), "app"),
        version=version,
        commit=history.commit,
        epoch=_epoch_of(history),
        settings=settings,
        threads=request.threads,
        launcher=request.launcher,
    )


def plan_build(
    request: Request, where: Path, settings: BuildConfig, output: Path, whole: Whole | None = None
) -> BuildPlan:
    """The plan of a single build; see :func:`begin`."""
    found = begin(request, where, settings, output, whole)
    context, targets, refused = found.context, found.targets, found.refused
    plan = _inspect_host(request, found)
    if reserved_on_windows(context.name) and (
        not targets or any(target.os == "windows" for target in targets)
    ):
        refused.append(f"Windows cannot have a file {context.name}: set project.name or --name")
    notes = list(plan.notes)
    if (where / MISSPELT_CONFIG).exists():
        notes.append(f"{MISSPELT_CONFIG} is not read: its name must be {config_path('.')}")
    if request.goal is not Goal.BUILD:
        missing = missing_files(context)
        notes += [f"archive.files has {name}, which does not exist" for name in missing]
    if where != context.home and (where / config_path(".")).exists():
        notes.append(
            f"{where / config_path('.')} is not read: its settings belong into builds of "
            f"{context.home / config_path('.')}"
        )
    return replace(plan, problems=(*refused, *plan.problems), notes=tuple(notes))


def _inspect_host(request: Request, found: Beginning) -> BuildPlan:
    goal, context, builder, targets = request.goal, found.context, found.builder, found.targets
    work = builder.plan(context, targets)
    packages = goal is not Goal.BUILD
    needed = [*work.tools, *(package_tools(context, targets) if packages else ())]
    tools = find_tools(needed, context.project_dir)
    problems = [*work.problems, *hook_problems(context, work.steps)]
    if packages:
        problems += package_problems(context, targets, part=bool(request.split))
    problems += (tool.problem for tool in tools if tool.problem)
    problems += missing_packages(goal, request.packing)
    sign = context.settings.sign
    signers = choose_signers(sign) if goal is Goal.RELEASE else Signers()
    if request.split:
        signers = replace(signers, checksums=())  # that of the whole are signed
    keys = check_keys(signers, sign, targets, problems)
    disk = disk_space(context, found.size, work.steps)
    if disk.free < disk.needed:
        problems.append(
            f"{disk.path} has {disk.free >> 20} MiB free, but {disk.needed >> 20} MiB are needed"
        )
    return BuildPlan(
        goal=goal,
        type=found.kind.type,
        why=found.kind.why,
        others=found.kind.others,
        builder=builder,
        context=context,
        targets=targets,
        steps=work.steps,
        packing=request.packing,
        tools=tuple(tools),
        signers=signers,
        keys=tuple(keys),
        disk=disk,
        problems=tuple(problems),
        notes=work.notes,
        snapshot=request.snapshot,
    )


class Kind(NamedTuple):
    """The type of a project, what determined it, and other possible types."""

    type: ProjectType
    why: str
    others: tuple[ProjectType, ...] = ()


def kind_of(where: Path, settings: BuildConfig, wanted: ProjectType | None) -> Kind:
    """The type of a project, as requested, configured or discovered."""
    if wanted is not None:
        return Kind(ProjectType(wanted), "it was requested")
    if settings.project.type is not None:
        return Kind(settings.project.type, "project.type in .core/build.yaml")
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
    return Kind(found.type, found.why, tuple(others))


def _targets(settings: BuildConfig, builder: Builder) -> tuple[Target, ...]:
    # Identity, not equality: a project may list the same targets on purpose.
    if settings.targets is DEFAULT_TARGETS:
        return tuple(builder.default_targets())
    return settings.targets


def file_name(text: str) -> str:
    """A text as a file name."""
    # Unlike .core/build.yaml, the project's own file was not checked.
    safe = "".join(char if char.isalnum() or char in "._+-" else "-" for char in text)
    return safe.strip(".-")


def _epoch_of(history: History) -> int:
    """The time that replaces the clock."""
    if VARIABLE in os.environ or history.time is None:
        return source_date_epoch()
    return history.time
