"""The plan of a build, as data: made and checked before anything is built.

A plan is complete: it has the exact commands and everything that is missing for them, so a single
run reports all missing tools.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from core_infra.build._archives.archive import Format, Profile
from core_infra.build._builders.environment import is_secret
from core_infra.build._errors import preflight_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder
    from core_infra.build._builders.steps import BuildContext, Command, Step
    from core_infra.build._part import Part
    from core_infra.build._project import ProjectType
    from core_infra.build._signing.choose import Signers


ANY = "any"
"""What a step is for that has no target."""


class Goal(StrEnum):
    """How far a build goes."""

    BUILD = "build"
    """Programs and directories, as the tools make them."""
    PACKAGE = "package"
    """Archives of these, with checksums and a manifest."""
    RELEASE = "release"
    """Signed archives, with a bill of materials and a provenance statement."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How artifacts are archived.

    Attributes:
        format: gz, xz or zip; artifacts for Windows, and of PHP projects, are always zip.
        profile: default, fast or small.
    """

    format: Format = Format.GZ
    profile: Profile = Profile.DEFAULT


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A program that a build needs.

    Attributes:
        name: its usual name.
        path: its path; empty if it is missing.
        version: the version that it reports; empty if its output has none.
        problem: why it cannot be used, and how to install it; empty if it can be used.
    """

    name: str
    path: str
    version: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs artifacts or checksums.

    Attributes:
        signs: the operating system whose programs it signs, or ``checksums``.
        name: the name of the signing tool.
        description: the tool's version and the key; empty if it cannot sign.
    """

    signs: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk space for artifacts.

    Attributes:
        path: a directory on the file system of the output directory.
        free: free bytes.
        needed: bytes that are needed at least.
    """

    path: str
    free: int
    needed: int


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The plan of a build; :func:`make_plan` returns it.

    Attributes:
        goal: how far the build goes.
        type: the type of project.
        why: what determined the type.
        others: other types that the project could be built as.
        builder: the builder.
        context: the input of the builder.
        targets: the platforms.
        steps: the commands to run, one step for each target or one for all.
        packing: how artifacts are archived.
        tools: the programs that are needed.
        signers: the signers of programs and checksums.
        keys: the keys that they sign with.
        disk: the free and needed disk space.
        problems: all reasons why the build is not possible here, one sentence each.
        notes: what the user may not expect, one sentence each.
        snapshot: whether a release may be of uncommitted sources; its version says that it is.
        builds: the plans of all builds that are released together, if there are several; type,
            builder and context are then those of the whole, and the rest is the sum of theirs.
        part_of: if this makes one part of a release (``--split``): what the parts of the whole
            release are made for, by the name of the build (empty for the only one).
        parts: if a release is merged from parts (``--merge``): these. Nothing is built.
    """

    goal: Goal
    type: ProjectType
    why: str
    others: tuple[ProjectType, ...]
    builder: Builder
    context: BuildContext
    targets: tuple[Target, ...]
    steps: tuple[Step, ...]
    packing: Packing
    tools: tuple[FoundTool, ...]
    signers: Signers
    keys: tuple[SigningKey, ...]
    disk: DiskSpace
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    snapshot: bool = False
    builds: tuple[BuildPlan, ...] = ()
    part_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The name of the build, if it is one of several."""
        return self.context.whole.build if self.context.whole else ""

    @property
    def units(self) -> tuple[str, ...]:
        """What the steps are for: ``os/arch``, or ``any``."""
        return tuple(str(step.target) if step.target else ANY for step in self.steps)

    def check(self) -> None:
        """Check that the build is possible.

        Raises:
            PreflightError: it is not; the error lists everything that is missing.
        """
        if self.problems:
            others = ", ".join(self.others)
            todo = (
                f"If it is not a {self.type} project, use --type; it could be: {others}."
                if others
                else ""
            )
            raise preflight_error(self.context.project_dir, self.problems, todo=todo)

    def as_data(self) -> dict[str, Any]:
        """Return the plan for JSON; the values of variables with secret names are omitted."""
        context = self.context
        return {
            "goal": str(self.goal),
            "project": str(context.project_dir),
            "output": str(context.output_dir),
            "name": context.name,
            "version": context.version,
            "snapshot": self.snapshot,
            "type": str(self.type),
            "why": self.why,
            "others": [str(other) for other in self.others],
            "epoch": context.epoch,
            "targets": [str(target) for target in self.targets],
            "steps": [
                {
                    "name": step.name,
                    "copy": str(step.copy) if step.copy else None,
                    "commands": [_command_data(command) for command in step.commands],
                }
                for step in self.steps
            ],
            "hooks": asdict(context.settings.hooks),
            "tools": [asdict(tool) for tool in self.tools],
            "packing": {"format": self.packing.format, "profile": self.packing.profile},
            "keys": [asdict(key) for key in self.keys],
            "disk": asdict(self.disk),
            "problems": list(self.problems),
            "notes": list(self.notes),
            **({"builds": [one.as_data() for one in self.builds]} if self.builds else {}),
            **({"parts": [str(one.directory) for one in self.parts]} if self.parts else {}),
        }


def _command_data(command: Command) -> dict[str, Any]:
    shown = {name: "***" if is_secret(name) else value for name, value in command.env.items()}
    return {
        "argv": list(command.argv),
        "dir": str(command.dir),
        "env": shown,
        "shell": shlex.join(command.argv),
    }
