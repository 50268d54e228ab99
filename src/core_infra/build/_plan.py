"""What a build would do, as data: made and checked before anything is built.

A plan is complete. It has the very commands that are run, and all that is missing for them, so that
nobody has to run a build three times to be told of three tools.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from core_infra.build._archives.archive import Format, Profile
from core_infra.build._builders.environment import is_secret
from core_infra.build._errors import PreflightError

if TYPE_CHECKING:
    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder, Command, Config, Step
    from core_infra.build._preflight import FoundTool
    from core_infra.build._project import ProjectType
    from core_infra.build._signing.choose import Signers


class Goal(StrEnum):
    """How far a build goes."""

    BUILD = "build"
    """Programs and folders, as the tools make them."""
    PACKAGE = "package"
    """These in archives, with checksums and a manifest."""
    RELEASE = "release"
    """These signed, with a bill of materials and a statement of their provenance."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How artifacts are archived.

    Attributes:
        format: gz, xz or zip; what is for Windows, and PHP, is zip in any case.
        profile: default, fast or small.
    """

    format: Format = Format.GZ
    profile: Profile = Profile.DEFAULT


@dataclass(frozen=True, slots=True)
class Key:
    """Something that signs.

    Attributes:
        signs: what: the system whose programs it signs, or ``checksums``.
        name: of the tool.
        description: the tool's version and the key; empty if it cannot sign.
    """

    signs: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Disk:
    """The room for artifacts.

    Attributes:
        path: the directory whose file system takes them.
        free: bytes that are free there.
        needed: bytes that are needed at least.
    """

    path: str
    free: int
    needed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build would do.

    Attributes:
        goal: how far it goes.
        type: the kind of project.
        why: what decided that.
        others: what else it could be built as.
        builder: builds it.
        config: what the builder is told.
        targets: the platforms.
        steps: what is run, one for each target or one for all.
        packing: how artifacts are archived.
        tools: the programs that are needed.
        signers: sign programs and checksums.
        keys: what they sign with.
        disk: the room.
        problems: why it cannot work here; one sentence each, all of them.
    """

    goal: Goal
    type: ProjectType
    why: str
    others: tuple[ProjectType, ...]
    builder: Builder
    config: Config
    targets: tuple[Target, ...]
    steps: tuple[Step, ...]
    packing: Packing
    tools: tuple[FoundTool, ...]
    signers: Signers
    keys: tuple[Key, ...]
    disk: Disk
    problems: tuple[str, ...]

    def check(self) -> None:
        """Let a plan pass that can work.

        Raises:
            PreflightError: it cannot; the error tells everything that is missing.
        """
        if self.problems:
            others = ", ".join(self.others)
            todo = (
                f"Is it no {self.type} project? --type says so; found: {others}." if others else ""
            )
            raise PreflightError.of(self.config.project_dir, self.problems, todo=todo)

    def as_data(self) -> dict[str, Any]:
        """The plan for JSON; values of variables with a secret's name are left out."""
        config = self.config
        return {
            "goal": str(self.goal),
            "project": str(config.project_dir),
            "output": str(config.output_dir),
            "name": config.name,
            "version": config.version,
            "type": str(self.type),
            "why": self.why,
            "others": [str(other) for other in self.others],
            "epoch": config.epoch,
            "targets": [str(target) for target in self.targets],
            "steps": [
                {
                    "name": step.name,
                    "copy": str(step.copy) if step.copy else None,
                    "commands": [_command_data(command) for command in step.commands],
                }
                for step in self.steps
            ],
            "tools": [asdict(tool) for tool in self.tools],
            "packing": {"format": self.packing.format, "profile": self.packing.profile},
            "keys": [asdict(key) for key in self.keys],
            "disk": asdict(self.disk),
            "problems": list(self.problems),
        }


def _command_data(command: Command) -> dict[str, Any]:
    shown = {name: "***" if is_secret(name) else value for name, value in command.env.items()}
    return {
        "argv": list(command.argv),
        "dir": str(command.dir),
        "env": shown,
        "shell": shlex.join(command.argv),
    }
