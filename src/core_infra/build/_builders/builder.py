"""The interface of builders.

A builder does not run anything itself. It plans what to run (:meth:`Builder.plan`), and selects
what to ship from the result (:meth:`Builder.gather`). So a plan can be shown, checked and compared
before the first compiler starts, and all builders run programs, use directories and finish
artifacts in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra.build._artifact import Artifact, host_target
from core_infra.build._builders.execute import run_steps
from core_infra.build._builders.workspace import check_output, finish, workspace
from core_infra.build._errors import preflight_error
from core_infra.build._project import ProjectType, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext, BuilderPlan, Step
    from core_infra.medium._medium import Medium
    from core_infra.process._runner.events import RunEvent


class Builder(Protocol):
    """Builds one type of project.

    A subclass defines ``name`` and :meth:`plan`. It overrides :meth:`gather` if its tool leaves
    artifacts elsewhere, and other methods as needed.

    Attributes:
        name: the type of project: a value of :class:`~core_infra.build.ProjectType`.
        format: the format of its archives; empty for that of the release.
        source_directories: names of directories that count as sources although developers' tools
            create them as well: ``node_modules``.
        supports_faketime: whether its tools work under ``faketime``. Programs with their own memory
            allocator, such as rustc, hang under it.
    """

    name: str
    format: str = ""
    source_directories: frozenset[str] = frozenset()
    supports_faketime: bool = False

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """Return the steps and tools of a build for the targets; must not run or write anything."""
        ...

    def detect(self, medium: Medium, directory: str) -> bool:
        """Whether a directory is a project of this type."""
        return ProjectType(self.name) in discover(medium, directory)

    def default_targets(self) -> list[Target]:
        """The platforms if the project does not list any; by default this host's."""
        return [host_target()]

    def default_name(self, project_dir: Path) -> str:
        """The project's name in the configuration file of its tool; by default empty."""
        del project_dir
        return ""

    def own_version(self, project_dir: Path) -> str:
        """The version in the configuration file of the project's tool; by default empty."""
        del project_dir
        return ""

    def outside(self, project_dir: Path) -> list[Path]:
        """Return the files and directories outside of the project that its tool needs.

        Those in the project's repository need not be listed.
        """
        del project_dir
        return []

    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]:
        """Return the files of the project that git ignores, but that the tool reads."""
        del context, targets
        return []

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move the artifacts to the step's output, unless the commands wrote them there.

        Raises:
            ArtifactMissingError: the commands made no artifact.
        """
        del context, step

    def collect(self, context: BuildContext, step: Step) -> list[Artifact]:
        """Return the artifacts in a step's output: one for each file or directory."""
        del context
        system, arch = (step.target.os, step.target.arch) if step.target else ("", "")
        return [
            Artifact(str(path), system, arch, tree=path.is_dir())
            for path in sorted(step.output.iterdir())
            if not path.name.startswith(".")
        ]

    def build(
        self,
        context: BuildContext,
        targets: Sequence[Target],
        *,
        listener: Callable[[RunEvent], object] | None = None,
    ) -> list[Artifact]:
        """Build, all or nothing: ``dist/{os}_{arch}/{name}`` for each target.

        Artifacts for all platforms are in ``dist/any``; those that are not archived for a release
        are at the top.

        Args:
            context: what to build.
            targets: the platforms.
            listener: called with an event at the start and end of each program.

        Raises:
            PreflightError: the build is not possible here; nothing was started.
            BuildFailedError: a program failed.
            WrongStateError: another build writes to the same output directory.
            CoreInfraError: as :meth:`plan` and :meth:`gather` do; in any case, the output directory
                is unchanged.
        """
        work = self.plan(context, targets)
        if work.problems:
            raise preflight_error(context.project_dir, work.problems)
        check_output(context.project_dir, context.output_dir)
        with workspace(context.output_dir, context.place) as directory:
            made = run_steps(self, context, work.steps, targets, listener=listener)
            return finish(made, directory)
