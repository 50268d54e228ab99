"""Projects that build by Task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.go import go_flags
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config

TASK = Tool("task", ("task", "--version"), "Install Task: https://taskfile.dev.")


class TaskfileBuilder(Builder):
    """``task build``, once for each target, each in a copy of its own.

    The task is told GOOS, GOARCH, OUTPUT_DIR, NAME and VERSION, as variables of Task and of the
    environment. All that it puts into OUTPUT_DIR is shipped.
    """

    name = "taskfile"

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step for each target: Task remembers in the project what it has done."""
        return Work(tuple(task_step(config, target) for target in targets), (TASK,))

    def gather(self, config: Config, step: Step) -> None:
        """Check that the task has made something."""
        if not any(step.output.iterdir()):
            raise ArtifactMissingError(
                f"the task build of {config.project_dir} has made nothing for {step.name}",
                why="the directory that OUTPUT_DIR names is empty",
                todo="Let the task write to {{.OUTPUT_DIR}}.",
            )


def task_step(config: Config, target: Target) -> Step:
    """What runs the task ``build`` for one target."""
    copy = config.scratch(str(target)) / "source"
    output = config.staging(target.directory)
    told = {
        "GOOS": target.os,
        "GOARCH": target.arch,
        "OUTPUT_DIR": str(output),
        "NAME": config.name,
        "VERSION": config.version,
    }
    # A variable of the Taskfile's own goes before the environment, but not before an argument.
    arguments = [f"{name}={value}" for name, value in told.items()]
    env = {
        **told,
        "GOFLAGS": go_flags(config, "-trimpath", "-buildvcs=false"),
        "GOMAXPROCS": str(config.jobs),
    }
    argv = ("task", "build", *extra_flags(config), *arguments)
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, copy, env),),
        output=output,
        copy=copy,
    )
