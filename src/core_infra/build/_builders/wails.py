"""Desktop programs of Wails."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.go import GO, go_environment, go_flags, linker_flags, module_name
from core_infra.build._builders.project_files import read_json, text
from core_infra.build._builders.taskfile import TASK, task_step
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config

_WAILS = Tool("wails", ("wails", "version"), "Install Wails: https://wails.io.")
_BINARIES = ("build/bin", "bin")
"""Where version 2 and version 3 put what they made."""


class WailsBuilder(Builder):
    """Version 2 by ``wails build``, version 3 by its Taskfile; once for each target.

    The artifacts are what is then in ``build/bin``: a program, or an application bundle.
    """

    name = "wails"

    def default_name(self, project_dir: Path) -> str:
        """The name in wails.json, else that of the Go module."""
        project = read_json(project_dir / "wails.json")
        return text(project, "outputfilename") or text(project, "name") or module_name(project_dir)

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step for each target, each in a copy: all write to the same folder."""
        if (config.project_dir / "wails.json").is_file():
            steps = tuple(_version_2(config, target) for target in targets)
            return Work(steps, (GO, _WAILS))
        return Work(tuple(task_step(config, target) for target in targets), (GO, TASK))

    def gather(self, config: Config, step: Step) -> None:
        """Move what was made out of the copy."""
        assert step.copy is not None  # noqa: S101 - planned above
        step.output.mkdir(parents=True, exist_ok=True)
        if any(step.output.iterdir()):
            return  # a Taskfile that knows OUTPUT_DIR
        places = [step.copy / name for name in _BINARIES]
        made = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
        if not made:
            raise ArtifactMissingError(
                f"building {config.project_dir} for {step.name} has made nothing",
                why=f"neither {' nor '.join(_BINARIES)} has a file",
            )
        for path in made:
            shutil.move(path, step.output / path.name)


def _version_2(config: Config, target: Target) -> Step:
    copy = config.scratch(str(target)) / "source"
    suffix = ".exe" if target.os == "windows" else ""
    argv = (
        *("wails", "build", "-platform", str(target), "-o", f"{config.name}{suffix}"),
        *config.settings.build.flags,
        *(("-ldflags", linker_flags(config)) if linker_flags(config) else ()),
    )
    env = go_environment(config, target)
    del env["CGO_ENABLED"]  # Wails needs it on some systems, and knows which
    # It compiles a helper for the host itself, and sets these for the program.
    del env["GOOS"], env["GOARCH"]
    env["GOFLAGS"] = go_flags(config, "-buildvcs=false")
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, copy, env),),
        output=config.staging(target.directory),
        copy=copy,
    )
