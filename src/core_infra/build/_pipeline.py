"""Carries out a plan: builds, signs, archives, and writes the documents; all or nothing.

All files are made in the workspace (see :mod:`core_infra.build._builders.workspace`) and moved to
their final names at the end, ``CHECKSUMS.txt`` last: a directory that has it is complete.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archive_rules import archive_files, archive_name, without_extension
from core_infra.build._archives.archive import archive_with_format
from core_infra.build._archives.reader import archive_content
from core_infra.build._artifact import Artifact
from core_infra.build._builders.execute import run_hooks, run_steps
from core_infra.build._builders.workspace import STAGING, finish, workspace
from core_infra.build._documents.checksums import checksum
from core_infra.build._documents.release import describe
from core_infra.build._errors import ArtifactMissingError
from core_infra.build._output_directory import check_others, check_released, retired
from core_infra.build._packages.image import build_image
from core_infra.build._packages.packages import build_packages
from core_infra.build._plan import Goal
from core_infra.build._release_rules import version_problem
from core_infra.build._reproducibility import check_reproducible
from core_infra.build._verify import verify_release
from core_infra.errors import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
)
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
    started = time.time()
    with workspace(context.output_dir, context.place) as work:
        built = run_steps(plan.builder, context, plan.steps, plan.targets, listener=listener)
        if plan.goal is Goal.BUILD:
            if twice:
                check_reproducible(plan, built)
            check_released(context.output_dir, built, work)
            moved = tuple(finish(built, work))
            return BuildResult(plan.context.output_dir, moved, moved, ())
        signs = bool(plan.signers.darwin or plan.signers.windows)
        shipped: list[Artifact] = []
        if twice:
            # Signatures contain the time, so the artifacts are compared before they are signed.
            shipped = _pack(plan, built, listener)
            check_reproducible(plan, shipped)
        if signs:
            built = [_signed(plan, artifact) for artifact in built]
        if signs or not twice:
            shipped = _pack(plan, built, listener)
        _check_version(plan, shipped)
        documents = describe(plan, shipped, built, started=started)
        if plan.goal is Goal.RELEASE:
            verify_release(LocalMedium(), str(context.assembly()))
        return _finish(plan, built, shipped, documents, work)


def _check_version(plan: BuildPlan, shipped: Sequence[Artifact]) -> None:
    """Refuse a release with a wheel of another version, which a build backend may have computed.

    Raises:
        InvalidError: there is one.
    """
    if plan.goal is not Goal.RELEASE or plan.snapshot:
        return
    for artifact in shipped:
        if artifact.name.endswith(".whl"):
            own = artifact.name.split("-")[1]
            if why := version_problem(plan.context.version, own, artifact.name):
                raise InvalidError(f"this is not a release of {plan.context.version}", why=why)


def _signed(plan: BuildPlan, artifact: Artifact) -> Artifact:
    medium, path = LocalMedium(), artifact.path
    for signer in plan.signers.for_os(artifact.os):
        path = signer.sign(medium, path)
    return replace(artifact, path=path)


def _pack(
    plan: BuildPlan, built: Sequence[Artifact], listener: Callable[[RunEvent], object] | None
) -> list[Artifact]:
    hooks, run = plan.context.settings.hooks, functools.partial(run_hooks, plan.builder)
    run(plan.context, "before_archive", hooks.before_archive, plan.targets, listener=listener)
    shipped: dict[str, Artifact] = {}
    packed = (_pack_one(plan, artifact) for artifact in built)
    for made in (*packed, *build_packages(plan, built), *build_image(plan, built)):
        if made.name in shipped:
            raise AlreadyExistsError(
                f"two artifacts would be {made.name}",
                todo="Give one of them another name.",
                path=made.name,
            )
        shipped[made.name] = made
    if not hooks.after_archive:
        return list(shipped.values())
    run(plan.context, "after_archive", hooks.after_archive, plan.targets, listener=listener)
    return _looked_at_again(plan, shipped)


def _looked_at_again(plan: BuildPlan, shipped: dict[str, Artifact]) -> list[Artifact]:
    """What is shipped after the hooks: they may have changed archives and added files."""
    medium, found = LocalMedium(), []
    for path in sorted(plan.context.assembly().iterdir()):
        if path.is_dir():
            continue
        made = shipped.get(path.name, Artifact(str(path)))
        content = archive_content(medium, str(path)) if made.content else ""
        found.append(replace(checksum(medium, made), content=content))
    if missing := sorted(set(shipped) - {one.name for one in found}):
        raise ArtifactMissingError(f"hooks.after_archive has removed {', '.join(missing)}")
    return found


def _pack_one(plan: BuildPlan, artifact: Artifact) -> Artifact:
    medium, top = LocalMedium(), plan.context.assembly()
    if Path(artifact.path).parent == top:
        return checksum(medium, artifact)  # shipped as it was built
    name = archive_name(plan, artifact)
    made = archive_with_format(
        medium,
        artifact,
        plan.builder.format or plan.packing.format,
        profile=plan.packing.profile,
        epoch=plan.context.epoch,
        threads=plan.context.threads,
        extra=archive_files(plan, artifact),
        wrap=name if plan.context.settings.archive.wrap else "",
    )
    extension = without_extension(made.name)[1]
    return replace(made, path=str(Path(made.path).rename(top / f"{name}{extension}")))


def _finish(
    plan: BuildPlan,
    built: Sequence[Artifact],
    shipped: Sequence[Artifact],
    documents: Sequence[Path],
    work: Path,
) -> BuildResult:
    output = plan.context.output_dir
    inside = [one for one in built if Path(one.path).parent != work / STAGING]
    every = [*inside, *shipped, *(Artifact(str(path)) for path in documents)]
    old = retired(output, {one.name for one in every})
    if plan.goal is Goal.RELEASE:
        check_others(output, {*old, *(output / one.name for one in every)})
    moved = dict(zip((one.path for one in every), finish(every, work, old), strict=True))
    return BuildResult(
        output,
        tuple(moved[one.path] for one in built),
        tuple(moved[one.path] for one in shipped),
        tuple(Path(moved[str(path)].path) for path in documents),
    )


def _only(artifacts: Sequence[Artifact], target: str) -> Artifact:
    found = [one for one in artifacts if target in {"", f"{one.os}/{one.arch}"}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.path for one in artifacts)
    what = f"there is no single artifact{target and ' for '}{target}"
    raise NotFoundError(what, why=f"there are {names}", target=target)
