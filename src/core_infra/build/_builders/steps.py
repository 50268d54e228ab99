"""What a builder gets, and what it plans: commands, steps, tools."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._builders.workspace import STAGING, WORK, build_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._artifact import Target
    from core_infra.build._config.settings import BuildConfig

_UNFIT = re.compile(r"[^\w.+@-]+")


@dataclass(frozen=True, slots=True)
class Whole:
    """The project that a build is one of several of.

    Attributes:
        build: the name of the build in ``builds`` of ``.core/build.yaml``.
        project_dir: the directory with that file, absolute.
        output_dir: the output directory of the whole project, absolute.
    """

    build: str
    project_dir: Path
    output_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """The input of a builder.

    Attributes:
        project_dir: the project's directory, absolute.
        output_dir: the output directory, absolute.
        inside: the project's path in what is copied: in its repository.
        name: the base name of artifacts.
        version: the version of artifacts; empty for none.
        commit: the commit of the sources; empty without a repository.
        epoch: the time to use instead of the clock, in seconds since 1970.
        settings: the project's ``.core/build.yaml``.
        threads: how many processors to use.
        workers: how many programs run in parallel.
        launcher: a program that starts the others, with arguments: ``nice -n 10``.
        whole: the project, if this is one of its several builds.
    """

    project_dir: Path
    output_dir: Path
    inside: Path = Path()
    name: str
    version: str = ""
    commit: str = ""
    epoch: int = 0
    settings: BuildConfig
    threads: int = 1
    workers: int = 1
    launcher: tuple[str, ...] = ()
    whole: Whole | None = None

    @property
    def home(self) -> Path:
        """The directory with the project's configuration and history."""
        return self.whole.project_dir if self.whole else self.project_dir

    @property
    def outputs(self) -> Path:
        """The directory with everything that was built of the project."""
        return self.whole.output_dir if self.whole else self.output_dir

    @property
    def jobs(self) -> int:
        """How many threads one compiler may use."""
        return max(1, self.threads // self.workers)

    @property
    def place(self) -> Path:
        """The directory for everything that programs of the build write, outside of the project."""
        return build_place(self.output_dir, self.project_dir)

    def scratch(self, step: str) -> Path:
        """A directory for the temporary files of a step."""
        return self.place / "scratch" / _UNFIT.sub("_", step)

    def copy(self, step: str) -> Path:
        """The project's directory in the copy of the sources for a step."""
        return self.scratch(step) / "source" / self.inside

    def staging(self, directory: str = "") -> Path:
        """The directory whose content becomes that of *directory* in the output directory."""
        return self.place / STAGING / directory

    def assembly(self, directory: str = "") -> Path:
        """The directory beside the output where artifacts wait for their final names."""
        return self.output_dir / WORK / STAGING / directory


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run.

    Attributes:
        argv: the program and its arguments; they must not contain secrets.
        dir: its working directory.
        env: environment variables in addition to those of every build.
    """

    argv: tuple[str, ...]
    dir: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The commands for the artifacts of one target, or of all; steps may run in parallel.

    Attributes:
        name: the target as ``os/arch``, or ``any``.
        target: the target; None if the artifacts are for all.
        commands: the programs, run one after another.
        output: the directory for the artifacts, and nothing else: in :meth:`BuildContext.staging`.
        copy: the project's directory in a copy of the sources: :meth:`BuildContext.copy`. Steps
            with the same one share the copy. None if the commands run in the project itself.
        seeds: additional files for the copy, as text, by their path in it.
        folders: directories to create before the commands run.
        packed: whether the artifacts are archived for a release; if not, files are shipped as they
            are, at the top of the output directory.
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
        name: its usual name.
        version: a command that prints its version; it must exist and succeed.
        todo: how to install it.
    """

    name: str
    version: tuple[str, ...]
    todo: str = ""


@dataclass(frozen=True, slots=True)
class BuilderPlan:
    """The plan of a builder.

    Attributes:
        steps: the steps to run.
        tools: the programs that must be installed.
        problems: known reasons why the build is not possible, one sentence each.
        notes: what the user may not expect, one sentence each.
    """

    steps: tuple[Step, ...]
    tools: tuple[Tool, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
