"""Images of LinuxKit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags
from core_infra.build._project import ProjectType, explain
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._builders.builder import Config

_LINUXKIT = Tool(
    "linuxkit",
    ("linuxkit", "version"),
    "Install LinuxKit: https://github.com/linuxkit/linuxkit/releases.",
)
_FORMATS = ("kernel+initrd",)


class LinuxKitBuilder(Builder):
    """``linuxkit build``, once for each architecture.

    The artifact is a directory with the files of all formats: ``NAME-kernel`` and so on.
    """

    name = "linuxkit"

    def default_targets(self) -> list[Target]:
        """Linux, on this host's architecture."""
        return [Target("linux", host_target().arch)]

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step for each target."""
        recipe = config.settings.linuxkit.config or _found(config)
        problems = [
            f"linuxkit builds for linux only, not for {target}"
            for target in targets
            if target.os != "linux"
        ]
        if not (config.project_dir / recipe).is_file():
            problems.append(f"there is no {config.project_dir / recipe}")
        steps = (_step(config, target, recipe) for target in targets if target.os == "linux")
        return Work(tuple(steps), (_LINUXKIT,), tuple(problems))


def _step(config: Config, target: Target, recipe: str) -> Step:
    output = config.staging(target.directory)
    formats = ",".join(config.settings.linuxkit.formats or _FORMATS)
    argv = (
        *("linuxkit", "build", "--format", formats, "--name", config.name),
        *("--dir", str(output / config.name), "--arch", target.arch),
        *extra_flags(config),
        str(config.project_dir / recipe),
    )
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, config.project_dir),),
        output=output,
        folders=(output / config.name,),
    )


def _found(config: Config) -> str:
    findings = explain(LocalMedium(config.project_dir), ".")
    marker = next(one.marker for one in findings if one.type is ProjectType.LINUXKIT)
    return marker or "linuxkit.yml"
