"""Plans for projects with several builds, and for releases that are made of parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._wording import similar
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._builders.steps import Whole
from core_infra.build._builders.workspace import WORK
from core_infra.build._documents.account import accounts_of_parts
from core_infra.build._part import find_parts, part_problems, read_part
from core_infra.build._part_identity import common_of
from core_infra.build._plan import BuildPlan, DiskSpace, Goal
from core_infra.build._requirements import check_keys, disk_space
from core_infra.build._signing.choose import Signers, choose_signers
from core_infra.build._single_plan import begin, context_of, kind_of, plan_build
from core_infra.build._sources.history import read_history
from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from core_infra.build._builders.steps import BuildContext
    from core_infra.build._config.settings import BuildConfig, NamedBuild
    from core_infra.build._single_plan import Beginning, Request

_INNER = "builds"


def chosen_builds(
    where: Path, settings: BuildConfig, names: Iterable[str]
) -> tuple[NamedBuild, ...]:
    """The builds with these names; all without names.

    Raises:
        NotFoundError: there is no such build.
    """
    wanted = dict.fromkeys(names)
    known = [one.name for one in settings.builds]
    for name in wanted:
        if name not in known:
            raise NotFoundError(
                f"{where} has no build {name!r}",
                why=f"there are {', '.join(known)}" if known else "it has no 'builds'",
                todo=f"Names are in .core/build.yaml{similar(name, known)}",
                path=str(where),
            )
    return tuple(one for one in settings.builds if not wanted or one.name in wanted)


def restricted(
    request: Request,
    where: Path,
    settings: BuildConfig,
    output: Path,
    whole: Whole | None = None,
) -> BuildPlan | None:
    """The plan of a build, or of the part of it that is made for some targets; None without any.

    Raises:
        CoreInfraError: as :func:`plan_build` does.
    """
    plan, split = plan_build(request, where, settings, output, whole), request.split
    if not split:
        return plan
    units = plan.units
    chosen = [unit for unit in units if unit in split or unit.partition("/")[0] in split]
    if not chosen:
        return None
    if chosen != [*units]:
        targets = tuple(one for one in plan.targets if str(one) in chosen)
        plan = plan_build(replace(request, targets=targets), where, settings, output, whole)
    return replace(plan, part_of={plan.name: units})


def plan_own(request: Request, where: Path, one: NamedBuild, outputs: Path) -> BuildPlan | None:
    """The plan of a build that has a release of its own, in a directory with its name."""
    if not one.has_own_release:
        return None
    whole = Whole(one.name, where, outputs)
    return restricted(request, where / one.directory, one.config, outputs / one.name, whole)


def plan_together(
    request: Request,
    where: Path,
    settings: BuildConfig,
    outputs: Path,
    chosen: Sequence[NamedBuild],
) -> BuildPlan | None:
    """The plan of all chosen builds that are released together; None without any."""
    if request.type or request.name or request.builder:
        raise InvalidError(
            f"{where} has several builds, and each has a name and a type",
            why="builds in .core/build.yaml",
            todo="Choose builds with --build instead of --name and --type.",
            path=str(where),
        )
    shared = [one for one in chosen if not one.has_own_release]
    if not shared:
        return None
    context = whole_context(request, where, settings, outputs)
    inner = replace(request, version=context.version)
    plans, units = [], {}
    for one in [one for one in settings.builds if not one.has_own_release]:
        whole = Whole(one.name, where, outputs)
        place = outputs / WORK / _INNER / one.name
        plan = None
        if one in shared:
            plan = restricted(inner, where / one.directory, one.config, place, whole)
        if plan is not None:
            plans.append(plan)
        if request.split:
            full = plan_build(inner, where / one.directory, one.config, place, whole)
            units[one.name] = full.units
    if not plans:
        return None
    problems = _shared_problems(plans)
    missing = [one.name for one in settings.builds if not one.has_own_release and one not in shared]
    if request.goal is Goal.RELEASE and not request.split and missing:
        problems.append(
            f"the release consists of all builds, also of {', '.join(missing)}: use no --build, or "
            "give builds a tag_prefix of their own"
        )
    plan = _sum(plans, context, problems)
    return replace(plan, part_of=units) if request.split else plan


def whole_context(
    request: Request, where: Path, settings: BuildConfig, outputs: Path
) -> BuildContext:
    """The input for a release of several builds: the name and the version of the project."""
    history = read_history(where, prefix=settings.project.tag_prefix, output=outputs)
    own = "" if request.version else _own_version(where, settings)
    names = (settings.project.name,)
    return context_of(request, where, settings, outputs, history, own=own, names=names)


def _own_version(where: Path, settings: BuildConfig) -> str:
    """The version in the files of the first build that has one."""
    for one in settings.builds:
        place = where / one.directory
        if not one.has_own_release and place.is_dir():
            kind = kind_of(place, one.config, None)
            if own := BUILDERS[kind.type].own_version(place):
                return own
    return ""


def _shared_problems(plans: Sequence[BuildPlan]) -> list[str]:
    counts = Counter(problem for plan in plans for problem in plan.problems)
    problems = [
        problem if counts[problem] == len(plans) else f"{plan.name}: {problem}"
        for plan in plans
        for problem in plan.problems
    ]
    images = Counter(plan.context.settings.oci.image for plan in plans)
    problems += [
        f"{count} builds have the image {image}: set oci.image in each of them"
        for image, count in images.items()
        if image and count > 1
    ]
    return list(dict.fromkeys(problems))


def _sum(plans: Sequence[BuildPlan], context: BuildContext, problems: list[str]) -> BuildPlan:
    first = plans[0]
    spaces = [plan.disk for plan in plans]
    return replace(
        first,
        why="builds in .core/build.yaml",
        others=(),
        context=context,
        targets=tuple(dict.fromkeys(target for plan in plans for target in plan.targets)),
        steps=tuple(step for plan in plans for step in plan.steps),
        tools=tuple(dict.fromkeys(tool for plan in plans for tool in plan.tools)),
        keys=tuple(dict.fromkeys(key for plan in plans for key in plan.keys)),
        disk=max(spaces, key=lambda space: space.needed),
        problems=tuple(problems),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        builds=tuple(plans),
        part_of={},
    )


def plan_merge(
    request: Request,
    where: Path,
    settings: BuildConfig,
    outputs: Path,
    directories: Iterable[str | Path],
) -> BuildPlan:
    """The plan of a release that is merged from parts, which must be of this project and commit.

    Args:
        request: what is to be released.
        where: the project's directory.
        settings: its configuration.
        outputs: the output directory.
        directories: those with the parts, or directories above them.

    Raises:
        NotFoundError: a directory has no part.
        InvalidError: a part is malformed.
        CoreInfraError: as :func:`plan_build` does.
    """
    parts = tuple(read_part(path) for path in find_parts(directories))
    names = set(parts[0].whole)
    own = [one for one in settings.builds if one.has_own_release and {one.name} == names]
    shared = [one for one in settings.builds if not one.has_own_release]
    if settings.builds and not own and names != {one.name for one in shared}:
        raise InvalidError(
            f"{parts[0].directory} is not a part of a release of {where}",
            why=f"it is of the builds {', '.join(sorted(names))}",
            path=str(parts[0].directory),
        )
    if not settings.builds:
        begun = [begin(request, where, settings, outputs)]
    else:
        inner = request
        if not own:
            context = whole_context(request, where, settings, outputs)
            inner = replace(request, version=context.version)
        begun = [
            begin(
                inner,
                where / one.directory,
                one.config,
                outputs / one.name if own else outputs,
                Whole(one.name, where, outputs),
            )
            for one in own or shared
        ]
    plans = [_merging(request, one) for one in begun]
    problems = list(dict.fromkeys(text for one in begun for text in one.refused))
    plan = plans[0]
    if settings.builds and not own:
        plan = replace(_sum(plans, context, []), why="parts")
    problems += part_problems(parts, common_of(plan, {}))
    keys = check_keys(plan.signers, settings.sign, (), problems)
    plan = replace(plan, problems=tuple(problems), keys=tuple(keys), parts=parts)
    accounts_of_parts(plan)  # raises an error if it cannot be read
    return plan


def _merging(request: Request, found: Beginning) -> BuildPlan:
    """The plan of a build of which all is made."""
    disk = disk_space(found.context, found.size, ())
    sign = found.context.settings.sign
    return BuildPlan(
        goal=request.goal,
        type=found.kind.type,
        why=found.kind.why,
        others=(),
        builder=found.builder,
        context=found.context,
        targets=found.targets,
        steps=(),
        packing=request.packing,
        tools=(),
        signers=Signers(checksums=choose_signers(sign).checksums),
        keys=(),
        disk=DiskSpace(disk.path, disk.free, 0),
        problems=(),
        snapshot=request.snapshot,
    )
