"""Makes the artifacts of one build: runs its steps, signs programs, archives."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archive_rules import archive_files, archive_name, without_extension
from core_infra.build._archives.archive import archive_with_format
from core_infra.build._archives.reader import archive_content
from core_infra.build._artifact import Artifact
from core_infra.build._builders.execute import run_hooks, run_steps
from core_infra.build._documents.account import account_of
from core_infra.build._documents.checksums import checksum
from core_infra.build._errors import ArtifactMissingError
from core_infra.build._packages.image import build_image
from core_infra.build._packages.packages import build_packages
from core_infra.build._plan import Goal
from core_infra.build._release_rules import version_problem
from core_infra.build._reproducibility import check_reproducible
from core_infra.errors import AlreadyExistsError, InvalidError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.build._documents.account import Account
    from core_infra.build._plan import BuildPlan
    from core_infra.process._runner.events import RunEvent


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, in the workspace.

    Attributes:
        built: what the builders made.
        shipped: what is shipped, with checksums; for the goal "build", nothing.
        accounts: what the documents say of each build, by its name.
        programs: of *built*, those of each build, by its name.
    """

    built: list[Artifact]
    shipped: list[Artifact] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    programs: dict[str, list[Artifact]] = field(default_factory=dict)


def make(plan: BuildPlan, *, twice: bool, listener: Callable[[RunEvent], object] | None) -> Made:
    """Carry out the plan of one build, in the workspace, up to the documents.

    Raises:
        CoreInfraError: as :func:`core_infra.build.carry_out` does.
    """
    context, started = plan.context, time.time()
    built = run_steps(plan.builder, context, plan.steps, plan.targets, listener=listener)
    if plan.goal is Goal.BUILD:
        if twice:
            check_reproducible(plan, built)
        return Made(built)
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
    account = account_of(plan, built, started)
    return Made(built, shipped, {plan.name: account}, {plan.name: built})


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
    # Of a part, the image is made when all parts are there.
    image = [] if plan.part_of else build_image(plan, built)
    for made in (*packed, *build_packages(plan, built), *image):
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
