"""Desktop programs with Wails."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.go import GO, go_flags, linker_flags, module_name
from core_infra.build._builders.go_packages import go_environment, local_modules
from core_infra.build._builders.project_files import read_json, text
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._builders.taskfile import TASK, task_step
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_WAILS = Tool("wails", ("wails", "version"), "Install Wails: https://wails.io.")
_BINARIES = ("build/bin", "bin")
"""The output directories of version 2 and version 3."""


class WailsBuilder(Builder):
    """Builds version 2 by ``wails build``, version 3 by its Taskfile; once for each target.

    The artifacts are the files in ``build/bin``: a program, or an application bundle.
    """

    name = "wails"

    def default_name(self, project_dir: Path) -> str:
        """The name in wails.json, else that of the Go module."""
        project = read_json(project_dir / "wails.json")
        return text(project, "outputfilename") or text(project, "name") or module_name(project_dir)

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target, in copies: all write to the same directory."""
        if (context.project_dir / "wails.json").is_file():
            steps = tuple(_version_2(context, target) for target in targets)
            return BuilderPlan(steps, (GO, _WAILS))
        return BuilderPlan(tuple(task_step(context, target) for target in targets), (GO, TASK))

    def outside(self, project_dir: Path) -> list[Path]:
        """The modules that ``replace`` and ``go.work`` take from other directories."""
        return local_modules(project_dir)

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move the artifacts out of the copy."""
        assert step.copy is not None  # noqa: S101 - planned above
        step.output.mkdir(parents=True, exist_ok=True)
        if any(step.output.iterdir()):
            return  # a Taskfile that uses OUTPUT_DIR
        places = [step.copy / name for name in _BINARIES]
        made = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
        if not made:
            raise ArtifactMissingError(
                f"building {context.project_dir} for {step.name} made no artifacts",
                why=f"{' and '.join(_BINARIES)} are empty or missing",
            )
        for path in made:
            shutil.move(path, step.output / path.name)


def _version_2(context: BuildContext, target: Target) -> Step:
    copy = context.copy(str(target))
    suffix = ".exe" if target.os == "windows" else ""
    argv = (
        *("wails", "build", "-platform", str(target), "-o", f"{context.name}{suffix}"),
        *context.settings.build.flags,
        *(("-ldflags", linker_flags(context)) if linker_flags(context) else ()),
    )
    env = go_environment(context, target)
    del env["CGO_ENABLED"]  # Wails sets it where it is needed
    # Wails compiles a helper for the host, and sets these itself for the program.
    del env["GOOS"], env["GOARCH"]
    env["GOFLAGS"] = go_flags(context, "-buildvcs=false")
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, copy, env),),
        output=context.staging(target.directory),
        copy=copy,
    )
