"""Carries out a plan: builds, signs, archives, and writes the documents; all or nothing.

All files are made in the workspace (see :mod:`core_infra.build._builders.workspace`) and moved to
their final names at the end, ``CHECKSUMS.txt`` last: a directory that has it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archives.archive import archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.build._builders.execute import run_steps
from core_infra.build._builders.workspace import STAGING, finish, workspace
from core_infra.build._documents.checksums import CHECKSUMS, checksum, read_checksum_file
from core_infra.build._documents.release import describe
from core_infra.build._errors import ChecksumError
from core_infra.build._plan import Goal
from core_infra.build._reproducibility import check_reproducible
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
        built = run_steps(plan.builder, context, plan.steps, plan.targets, listener=listener)
        if plan.goal is Goal.BUILD:
            if twice:
                check_reproducible(plan, built)
            moved = tuple(finish(built, work))
            return BuildResult(plan.context.output_dir, moved, moved, ())
        if twice:
            # Signatures contain the time, so the artifacts are compared before they are signed.
            check_reproducible(plan, _pack(plan, built))
        if plan.signers.darwin or plan.signers.windows:
            built = [_signed(plan, artifact) for artifact in built]
        shipped = _pack(plan, built)
        documents = describe(plan, shipped)
        if plan.goal is Goal.RELEASE:
            verify_release(LocalMedium(), str(context.assembly()))
        return _finish(plan, built, shipped, documents, work)


def _signed(plan: BuildPlan, artifact: Artifact) -> Artifact:
    medium, path = LocalMedium(), artifact.path
    for signer in plan.signers.for_os(artifact.os):
        path = signer.sign(medium, path)
    return replace(artifact, path=path)


def _pack(plan: BuildPlan, built: Sequence[Artifact]) -> list[Artifact]:
    shipped: dict[str, Artifact] = {}
    for artifact in built:
        made = _pack_one(plan, artifact)
        if made.name in shipped:
            raise AlreadyExistsError(
                f"two artifacts would be {made.name}",
                todo="Give one of them another name.",
                path=made.name,
            )
        shipped[made.name] = made
    return list(shipped.values())


def _pack_one(plan: BuildPlan, artifact: Artifact) -> Artifact:
    medium, top = LocalMedium(), plan.context.assembly()
    if Path(artifact.path).parent == top:
        return checksum(medium, artifact)  # shipped as it was built
    made = archive_with_format(
        medium,
        artifact,
        plan.builder.format or plan.packing.format,
        profile=plan.packing.profile,
        epoch=plan.context.epoch,
        threads=plan.context.threads,
    )
    return replace(made, path=str(Path(made.path).rename(top / made.name)))


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
    _retire(output, {one.name for one in every})
    moved = dict(zip((one.path for one in every), finish(every, work), strict=True))
    return BuildResult(
        output,
        tuple(moved[one.path] for one in built),
        tuple(moved[one.path] for one in shipped),
        tuple(Path(moved[str(path)].path) for path in documents),
    )


def _retire(output: Path, names: set[str]) -> None:
    """Remove an older release: the files that only it lists, and then its checksums.

    From here until the new checksums are in place, the directory is not a release.
    """
    checksums = output / CHECKSUMS
    if not checksums.is_file():
        return
    try:
        listed = read_checksum_file(LocalMedium(), str(checksums))
    except ChecksumError:
        listed = {}  # not ours: its files are unknown
    for name in listed.keys() - names:
        (output / name).unlink(missing_ok=True)
    for path in [*output.glob(f"{CHECKSUMS}.*"), checksums]:
        path.unlink()


def _only(artifacts: Sequence[Artifact], target: str) -> Artifact:
    found = [one for one in artifacts if target in {"", f"{one.os}/{one.arch}"}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.path for one in artifacts)
    what = f"there is no single artifact{target and ' for '}{target}"
    raise NotFoundError(what, why=f"there are {names}", target=target)
