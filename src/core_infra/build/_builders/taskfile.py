"""Projects that are built by Task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.go import go_flags
from core_infra.build._builders.go_packages import variant_variable
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

TASK = Tool("task", ("task", "--version"), "Install Task: https://taskfile.dev.")


class TaskfileBuilder(Builder):
    """``task build``, once for each target, each in its own copy of the project.

    The task gets GOOS, GOARCH, OUTPUT_DIR, NAME and VERSION, as variables of Task and as
    environment variables. All files in OUTPUT_DIR are shipped.
    """

    name = "taskfile"

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target, in copies: Task stores its state in the project."""
        return BuilderPlan(tuple(task_step(context, target) for target in targets), (TASK,))

    def gather(self, context: BuildContext, step: Step) -> None:
        """Check that the task made an artifact."""
        if not any(step.output.iterdir()):
            raise ArtifactMissingError(
                f"the task build of {context.project_dir} made no artifacts for {step.name}",
                why="the directory OUTPUT_DIR is empty",
                todo="Change the task to write to {{.OUTPUT_DIR}}.",
            )


def task_step(context: BuildContext, target: Target) -> Step:
    """The step that runs the task ``build`` for one target."""
    copy = context.copy(str(target))
    output = context.staging(target.directory)
    variables = {
        "GOOS": target.os,
        "GOARCH": target.architecture,
        **variant_variable(target),
        "OUTPUT_DIR": str(output),
        "NAME": context.name,
        "VERSION": context.version,
    }
    # A variable in the Taskfile overrides the environment, but not an argument.
    arguments = [f"{name}={value}" for name, value in variables.items()]
    env = {
        **variables,
        "GOFLAGS": go_flags(context, "-trimpath", "-buildvcs=false"),
        "GOMAXPROCS": str(context.jobs),
    }
    argv = ("task", "build", *extra_flags(context), *arguments)
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, copy, env),),
        output=output,
        copy=copy,
    )
