"""Carries out a plan: builds, signs, archives, and writes the documents; all or nothing.

All files are made in the workspace (see :mod:`core_infra.build._builders.workspace`) and moved to
their final names at the end, ``CHECKSUMS.txt`` last: a directory that has it is complete.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import Artifact
from core_infra.build._builders.sources import sources_of
from core_infra.build._builders.workspace import STAGING, finish, move, workspace
from core_infra.build._documents.account import accounts_of_parts, summed
from core_infra.build._documents.checksums import checksum
from core_infra.build._documents.release import describe
from core_infra.build._making import Made, make
from core_infra.build._output_directory import check_others, check_released, retired
from core_infra.build._packages.image import build_image
from core_infra.build._part import PROGRAMS, Part, write_part
from core_infra.build._part_identity import common_of
from core_infra.build._plan import Goal
from core_infra.build._verify import verify_release
from core_infra.errors import AlreadyExistsError, NotFoundError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.build._plan import BuildPlan
    from core_infra.process._runner.events import RunEvent


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build.

    Attributes:
        directory: the output directory.
        built: what the builder made: programs, directories.
        artifacts: what is shipped: archives, and files that are shipped as they were built, each
            with its checksum; for the goal "build", the same as *built*.
        documents: the paths of the documents; the checksums are last.
    """

    directory: Path
    built: tuple[Artifact, ...]
    artifacts: tuple[Artifact, ...]
    documents: tuple[Path, ...]

    def artifact(self, target: str = "") -> Artifact:
        """Return the artifact for ``os/arch``, or the only one.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        return _only(self.artifacts, target)

    def program(self, target: str = "") -> Path:
        """Return the path of what was built for ``os/arch``, before it was archived.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        return Path(_only(self.built, target).path)


def carry_out(
    plan: BuildPlan, *, twice: bool = False, listener: Callable[[RunEvent], object] | None = None
) -> BuildResult:
    """Carry out a plan, up to its goal.

    Args:
        plan: the plan, see :func:`make_plan`.
        twice: build again in a different environment, and fail unless the output is bit-identical.
        listener: called with an event at the start and end of each program.

    Raises:
        PreflightError: the plan has problems; nothing was started.
        BuildFailedError: a program failed.
        NotReproducibleError: the second build differs.
        SigningError: signing failed.
        VerificationError: the finished release does not pass its own verification.
        WrongStateError: another build writes to the same output directory.
        CoreInfraError: as the builder's steps do; in any case, the output directory is unchanged.
    """
    plan.check()
    context = plan.context
    with workspace(context.output_dir, context.place) as work:
        if plan.parts:
            made = _merge(plan)
        elif plan.builds:
            made = _make_each(plan, twice=twice, listener=listener)
        else:
            made = make(plan, twice=twice, listener=listener)
        if plan.goal is Goal.BUILD:
            check_released(context.output_dir, made.built, work)
            moved = tuple(finish(made.built, work))
            return BuildResult(context.output_dir, moved, moved, ())
        if plan.part_of:
            return _finish(plan, _as_part(plan, made), work)
        documents = describe(plan, made.shipped, summed(plan, made.accounts))
        if plan.goal is Goal.RELEASE:
            verify_release(LocalMedium(), str(context.assembly()))
        return _finish(plan, made, work, documents)


def _make_each(
    plan: BuildPlan, *, twice: bool, listener: Callable[[RunEvent], object] | None
) -> Made:
    """Make several builds one after another, each in a workspace in that of the whole."""
    every = Made([])
    for one in plan.builds:
        with workspace(one.context.output_dir, one.context.place):
            made = make(one, twice=twice, listener=listener)
            built = [_moved(artifact, one, plan) for artifact in made.built]
            paths = {old.path: new for old, new in zip(made.built, built, strict=True)}
            every.shipped.extend(
                replace(artifact, path=paths[artifact.path].path)
                if artifact.path in paths
                else _moved(artifact, one, plan)
                for artifact in made.shipped
            )
            every.built.extend(built)
            every.accounts.update(made.accounts)
            every.programs[one.name] = built
    return every


def _moved(artifact: Artifact, one: BuildPlan, plan: BuildPlan) -> Artifact:
    inside = Path(artifact.path).relative_to(one.context.assembly())
    new = plan.context.assembly() / inside
    move(Path(artifact.path), new)
    return replace(artifact, path=str(new))


def _as_part(plan: BuildPlan, made: Made) -> Made:
    """Describe what was made as a part of a release, with the programs that the whole needs."""
    medium, top = LocalMedium(), plan.context.assembly()
    builds = plan.builds or (plan,)
    programs: list[tuple[str, Artifact]] = []
    for one in builds:
        if not one.context.settings.oci.image:
            continue
        for artifact in made.programs[one.name]:
            if artifact.os == "linux":
                place = top / PROGRAMS / (one.name or "program") / f"{artifact.os}_{artifact.arch}"
                place.mkdir(parents=True, exist_ok=True)
                copy = shutil.copy2(artifact.path, place / artifact.name)
                programs.append((one.name, checksum(medium, replace(artifact, path=str(copy)))))
    digests = {one.name: sources_of(one.builder, one.context).digest for one in builds}
    part = Part(
        directory=top,
        common=common_of(plan, digests),
        whole=plan.part_of,
        units={one.name: one.units for one in builds},
        artifacts=tuple(made.shipped),
        programs=tuple(programs),
        accounts={name: one.as_data() for name, one in made.accounts.items()},
    )
    path = write_part(top, part)
    return Made([], [*made.shipped, *(one for _, one in programs), Artifact(str(path))])


def _merge(plan: BuildPlan) -> Made:
    """Copy the files of all parts, after checking them, and make what needs all of them."""
    medium, top = LocalMedium(), plan.context.assembly()
    shipped: dict[str, Artifact] = {}
    for part in plan.parts:
        part.check_files()
        for artifact in part.artifacts:
            same = shipped.get(artifact.name)
            if same and same.checksum != artifact.checksum:
                raise AlreadyExistsError(
                    f"two parts have a file {artifact.name}, and it is not the same",
                    why=f"one of them is {part.directory}",
                    path=artifact.path,
                )
            if same is None:
                top.mkdir(parents=True, exist_ok=True)
                copy = shutil.copyfile(artifact.path, top / artifact.name)
                found = checksum(medium, replace(artifact, path=str(copy)))
                shipped[artifact.name] = found
    for one in plan.builds or (plan,):
        programs = [
            program for part in plan.parts for name, program in part.programs if name == one.name
        ]
        for image in build_image(one, programs):
            shipped[image.name] = image
    return Made([], list(shipped.values()), accounts_of_parts(plan))


def _finish(plan: BuildPlan, made: Made, work: Path, documents: Sequence[Path] = ()) -> BuildResult:
    output = plan.context.output_dir
    inside = [one for one in made.built if Path(one.path).parent != work / STAGING]
    every = [*inside, *made.shipped, *(Artifact(str(path)) for path in documents)]
    old = retired(output, {one.name for one in every})
    if plan.goal is Goal.RELEASE:
        check_others(output, {*old, *(output / one.name for one in every)})
    moved = dict(zip((one.path for one in every), finish(every, work, old), strict=True))
    return BuildResult(
        output,
        tuple(moved[one.path] for one in made.built),
        tuple(moved[one.path] for one in made.shipped),
        tuple(Path(moved[str(path)].path) for path in documents),
    )


def _only(artifacts: Sequence[Artifact], target: str) -> Artifact:
    found = [one for one in artifacts if target in {"", f"{one.os}/{one.arch}"}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.path for one in artifacts)
    what = f"there is no single artifact{target and ' for '}{target}"
    raise NotFoundError(what, why=f"there are {names}", target=target)
