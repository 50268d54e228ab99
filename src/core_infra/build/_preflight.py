"""Looks at a project and at this host before anything is built, and makes the plan."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._archives.archive import Profile
from core_infra.build._archives.contents import VARIABLE, source_date_epoch
from core_infra.build._archives.deflate import usable_cpus
from core_infra.build._builders.builder import Config
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._builders.sources import commit_time, described_version, tree_size
from core_infra.build._builders.workspace import check_output
from core_infra.build._config.load import load_config
from core_infra.build._config.settings import DEFAULT_TARGETS
from core_infra.build._plan import Disk, Goal, Key, Packing, Plan
from core_infra.build._project import ProjectType, explain
from core_infra.build._signing.choose import Signers, choose_signers
from core_infra.errors import CoreInfraError, NotFoundError
from core_infra.medium._local import LocalMedium
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.spec import RunSpec
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder, Step, Tool
    from core_infra.build._config.settings import BuildConfig, Sign
    from core_infra.process._runner.results import RunResult


_RESERVE = 64 << 20
"""Bytes that a step may need besides the copy of the sources: what a small program takes."""


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
    threads: int | None = None,
    launcher: tuple[str, ...] = (),
) -> Plan:
    """Look at a project and at this host, and say what building it would take.

    Args:
        project: its directory.
        goal: how far to go: "build", "package" or "release".
        packing: how artifacts are archived.
        output: where artifacts go; by default ``dist`` in it.
        targets: the platforms; by default those of ``.core/build.yaml``, else what the kind of
            project can be built for without further ado: Go's for the four usual ones, others for
            this host.
        type: what to build it as; by default what ``.core/build.yaml`` says or is discovered.
        builder: builds it; by default the one for its type.
        name: what the artifacts are called; by default what the project says.
        version: what they are stamped with; by default what git tells from the project's tags.
        threads: how many processors to use; by default all that this process may.
        launcher: a program that starts those of the build, with its arguments: ``nice -n 10``.

    Raises:
        NotFoundError: there is no such directory, or it is no project of a known kind.
        ConfigError: ``.core/build.yaml`` or the project's own file is malformed.
        InvalidError: the output directory is around the project.
        CoreInfraError: a file cannot be read.
    """
    where = _directory(project)
    settings = load_config(LocalMedium(where), ".")
    kind = _kind(where, settings, type)
    builder = builder or BUILDERS[kind.type]
    chosen = tuple(dict.fromkeys(targets)) or _targets(settings, builder)
    cpus = threads or usable_cpus()
    config = Config(
        project_dir=where,
        output_dir=where / "dist" if output is None else Path(output).absolute(),
        name=_name(name or settings.project.binary or settings.project.name)
        or _name(builder.default_name(where))
        or _name(where.name)
        or "app",
        version=version or described_version(where),
        epoch=_epoch(where),
        settings=settings,
        threads=cpus,
        launcher=launcher,
        workers=max(1, min(cpus, len(chosen))),
    )
    check_output(config.project_dir, config.output_dir)
    return _look_at_host(
        config, builder, chosen, goal=Goal(goal), packing=packing or Packing(), kind=kind
    )


def _look_at_host(
    config: Config,
    builder: Builder,
    targets: tuple[Target, ...],
    *,
    goal: Goal,
    packing: Packing,
    kind: _Kind,
) -> Plan:
    work = builder.plan(config, targets)
    tools = find_tools(work.tools)
    problems = [*work.problems, *(tool.problem for tool in tools if tool.problem)]
    problems += missing_packages(goal, packing)
    sign = config.settings.sign
    signers = choose_signers(sign) if goal is Goal.RELEASE else Signers()
    keys = _check_keys(signers, sign, targets, problems)
    disk = _disk(config, builder, work.steps)
    if disk.free < disk.needed:
        problems.append(
            f"{disk.path} has {disk.free >> 20} MiB free, and {disk.needed >> 20} MiB are needed"
        )
    return Plan(
        goal=goal,
        type=kind.type,
        why=kind.why,
        others=kind.others,
        builder=builder,
        config=config,
        targets=targets,
        steps=work.steps,
        packing=packing,
        tools=tuple(tools),
        signers=signers,
        keys=tuple(keys),
        disk=disk,
        problems=tuple(problems),
    )


def _directory(project: str | os.PathLike[str]) -> Path:
    where = Path(project).absolute()
    if not where.is_dir():
        raise NotFoundError(f"there is no directory {where}", path=str(where))
    return where


class _Kind(NamedTuple):
    """What to build a project as, what decided that, and what else it could be built as."""

    type: ProjectType
    why: str
    others: tuple[ProjectType, ...] = ()


def _kind(where: Path, settings: BuildConfig, wanted: ProjectType | None) -> _Kind:
    if wanted is not None:
        return _Kind(ProjectType(wanted), "it was asked for")
    if settings.project.type is not None:
        return _Kind(settings.project.type, "project.type in .core/build.yaml says so")
    findings = explain(LocalMedium(where), ".")
    found = next((finding for finding in findings if finding.found), None)
    if found is None:
        raise NotFoundError(
            f"{where} is no project of a kind that is known",
            why="; ".join(f"{finding.type}: {finding.why}" for finding in findings),
            todo="Run it in a project's directory, or name one.",
            path=str(where),
        )
    others = [finding.type for finding in findings if finding.found and finding is not found]
    return _Kind(found.type, found.why, tuple(others))


def _targets(settings: BuildConfig, builder: Builder) -> tuple[Target, ...]:
    # Not what is equal to the default: a project may say it on purpose.
    if settings.targets is DEFAULT_TARGETS:
        return tuple(builder.default_targets())
    return settings.targets


def _name(text: str) -> str:
    # What a project's own file says was not checked as .core/build.yaml is.
    safe = "".join(char if char.isalnum() or char in "._+-" else "-" for char in text)
    return safe.strip(".-")


def _epoch(where: Path) -> int:
    if VARIABLE in os.environ:
        return source_date_epoch()
    time = commit_time(where)
    return source_date_epoch({}) if time is None else time


def _check_keys(
    signers: Signers, sign: Sign, targets: Sequence[Target], problems: list[str]
) -> list[Key]:
    if sign.unset and (signers.checksums or signers.darwin or signers.windows):
        problems.append(f"signing needs variables that are not set: {', '.join(sign.unset)}")
    systems = dict.fromkeys(target.os for target in targets)
    asked = [(name, signer) for name in systems for signer in signers.for_os(name)]
    asked += [("checksums", signer) for signer in signers.checksums]
    keys = []
    for signs, signer in asked:
        description = ""
        try:
            description = signer.check()
        except CoreInfraError as error:
            problems.append(str(error))
        keys.append(Key(signs, signer.name, description))
    return keys


def _disk(config: Config, builder: Builder, steps: Sequence[Step]) -> Disk:
    copies = sum(step.copy is not None for step in steps)
    size = tree_size(config.project_dir, config.output_dir, builder.keeps) if copies else 0
    path = config.output_dir
    while not path.exists():
        path = path.parent
    needed = copies * size + len(steps) * _RESERVE
    return Disk(str(path), shutil.disk_usage(path).free, needed)


_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A program that a build needs.

    Attributes:
        name: what people call it.
        path: where it is; empty if it is missing.
        version: what it says of itself; empty if it says nothing that looks like a version.
        problem: why it cannot be used, and how to get it; empty if it can.
    """

    name: str
    path: str
    version: str
    problem: str = ""


def find_tools(tools: Sequence[Tool]) -> list[FoundTool]:
    """Look for programs and ask each for its version, all at once."""
    specs = [
        RunSpec(str(number), tool.version[0], tool.version[1:], timeout=_TIMEOUT)
        for number, tool in enumerate(tools)
        if shutil.which(tool.version[0])
    ]
    with Service() as service:
        results = {one.name: one for one in Runner(service).run_parallel(specs).results}
    return [_found(tool, results.get(str(number))) for number, tool in enumerate(tools)]


def missing_packages(goal: Goal, packing: Packing) -> list[str]:
    """The Python packages that archives and a bill of materials need, and that are not installed.

    One sentence each.
    """
    modules = []
    if goal is not Goal.BUILD:
        modules.append("isal" if packing.profile is Profile.FAST else "zlib_ng")
    if goal is Goal.RELEASE:
        modules.append("cyclonedx")
    return [
        f"the package {name} is not installed. Install it with: pip install core-infra[build]"
        for name in modules
        if importlib.util.find_spec(name) is None
    ]


def _found(tool: Tool, asked: RunResult | None) -> FoundTool:
    path = shutil.which(tool.version[0]) or ""
    if asked is None:
        return FoundTool(tool.name, "", "", _sentence(f"{tool.name} is not on PATH", tool))
    if not asked.passed:
        said = (asked.output.strip().splitlines() or [asked.reason.partition("\n")[0]])[-1]
        what = f"{tool.name} does not work: {shlex.join(tool.version)} ended with {said!r}"
        return FoundTool(tool.name, path, "", _sentence(what, tool))
    version = _VERSION.search(asked.output)
    return FoundTool(tool.name, path, version[0] if version else "")


def _sentence(what: str, tool: Tool) -> str:
    return f"{what}. {tool.todo}" if tool.todo else what
