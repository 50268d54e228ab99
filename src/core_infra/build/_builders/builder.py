"""The port: what builds one kind of project.

A builder does not run anything itself. It says what is to be run (:meth:`Builder.plan`), and what
of the outcome is to be shipped (:meth:`Builder.gather`); so a plan can be shown, checked and
compared before the first compiler starts, and all builders share how programs are run, where they
may write, and when an artifact counts as finished.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from core_infra.build._artifact import Artifact, host_target
from core_infra.build._builders.execute import run_steps
from core_infra.build._builders.workspace import STAGING, WORK, check_output, finish, workspace
from core_infra.build._errors import PreflightError
from core_infra.build._project import ProjectType, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._config.settings import BuildConfig
    from core_infra.medium._medium import Medium
    from core_infra.process._runner.events import RunEvent

_UNFIT = re.compile(r"[^\w.+@-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a builder is told.

    Attributes:
        project_dir: the project, absolute.
        output_dir: where artifacts go, absolute.
        name: what they are called.
        version: what they are stamped with; empty stamps nothing.
        epoch: the time that takes the place of the clock's, in seconds since 1970.
        settings: what the project says in ``.core/build.yaml``.
        threads: how many processors may be busy.
        workers: how many programs run at once.
        launcher: a program that starts the others, with its arguments: ``nice -n 10``.
    """

    project_dir: Path
    output_dir: Path
    name: str
    version: str = ""
    epoch: int = 0
    settings: BuildConfig
    threads: int = 1
    workers: int = 1
    launcher: tuple[str, ...] = ()

    @property
    def jobs(self) -> int:
        """How many threads one compiler may use."""
        return max(1, self.threads // self.workers)

    def scratch(self, step: str) -> Path:
        """A directory for what a step needs and nobody ships."""
        return self.output_dir / WORK / "scratch" / _UNFIT.sub("_", step)

    def staging(self, directory: str = "") -> Path:
        """Where what will be *directory* of the output directory waits for the rest."""
        return self.output_dir / WORK / STAGING / directory


@dataclass(frozen=True, slots=True)
class Command:
    """One program run.

    Attributes:
        argv: the program and its arguments; no secret is ever among them.
        dir: its working directory.
        env: variables that are added to those of every build.
    """

    argv: tuple[str, ...]
    dir: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What makes the artifacts of one target, or those for all; steps may run at once.

    Attributes:
        name: the target as ``os/arch``, or ``any``.
        target: the target; None if the artifacts are for all.
        commands: run one after another.
        output: the directory in the staging area that is to hold the artifacts, and nothing else.
        copy: where the project is copied to before the commands run: for tools that write beside
            the sources. None if they run in the project itself.
        seeds: files that the copy gets besides, by their path in it.
        folders: directories that are made before the commands run.
        packed: whether the artifacts are archived for a release; if not, they are shipped as the
            tool made them, at the top of the output directory.
    """

    name: str
    target: Target | None
    commands: tuple[Command, ...]
    output: Path
    copy: Path | None = None
    seeds: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    packed: bool = True


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that a build needs.

    Attributes:
        name: what people call it.
        version: the command that prints its version; it must be there, and succeed.
        todo: how to get it.
    """

    name: str
    version: tuple[str, ...]
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What a builder would do.

    Attributes:
        steps: what is run.
        tools: what must be installed for it.
        problems: why it cannot work, as far as that is known before anything is run; one sentence
            each.
    """

    steps: tuple[Step, ...]
    tools: tuple[Tool, ...]
    problems: tuple[str, ...] = ()


class Builder(Protocol):
    """Builds one kind of project.

    A subclass names itself and plans; it overrides the rest where its tool leaves artifacts
    elsewhere, or where they are shipped as they are.

    Attributes:
        name: of the kind of project: a value of :class:`~core_infra.build._project.ProjectType`.
        format: what its artifacts are archived as; empty is what the release says.
        keeps: directories that are sources if they are there, although developers' tools leave
            such: ``node_modules``.
        bears_faketime: whether its tools work under ``faketime``. Programs with an allocator of
            their own, rustc among them, hang under it.
    """

    name: str
    format: str = ""
    keeps: frozenset[str] = frozenset()
    bears_faketime: bool = False

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """Say what building for the targets takes; runs nothing, and writes nothing."""
        ...

    def detect(self, medium: Medium, directory: str) -> bool:
        """Whether a directory is a project of this kind."""
        return ProjectType(self.name) in discover(medium, directory)

    def default_targets(self) -> list[Target]:
        """The platforms that it builds for if the project names none: by default this one."""
        return [host_target()]

    def default_name(self, project_dir: Path) -> str:
        """What the project calls itself, in the file that its tool reads; else empty."""
        del project_dir
        return ""

    def gather(self, config: Config, step: Step) -> None:
        """Move what the commands made to the step's output, unless they put it there.

        Raises:
            ArtifactMissingError: they made nothing that could be shipped.
        """
        del config, step

    def collect(self, config: Config, step: Step) -> list[Artifact]:
        """Describe what is in a step's output: one artifact for each file or directory."""
        del config
        system, arch = (step.target.os, step.target.arch) if step.target else ("", "")
        return [
            Artifact(str(path), system, arch, tree=path.is_dir())
            for path in sorted(step.output.iterdir())
            if not path.name.startswith(".")
        ]

    def build(
        self,
        config: Config,
        targets: Sequence[Target],
        *,
        listener: Callable[[RunEvent], object] | None = None,
    ) -> list[Artifact]:
        """Build, all or nothing: ``dist/{os}_{arch}/{name}`` for each target.

        What is not for one platform is in ``dist/any``; what is not to be archived is at the top.

        Args:
            config: what to build.
            targets: the platforms.
            listener: hears of the start and the end of each program.

        Raises:
            PreflightError: it cannot work, as far as that is known beforehand.
            BuildFailedError: a program failed.
            WrongStateError: another build writes to the same output directory.
            CoreInfraError: as :meth:`plan` and :meth:`gather` do; whatever is raised, the output
                directory is as it was.
        """
        work = self.plan(config, targets)
        if work.problems:
            raise PreflightError.of(config.project_dir, work.problems)
        check_output(config.project_dir, config.output_dir)
        with workspace(config.output_dir) as place:
            made = run_steps(self, config, work.steps, listener=listener)
            return finish(made, place)
