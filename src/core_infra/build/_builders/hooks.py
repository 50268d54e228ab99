"""Runs the project's own commands before and after its builds and archives.

They run in a copy of the sources, like the programs of the build, so nothing that they do changes
the user's tree. If one fails, the build fails, and the output directory is unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._builders.environment import build_environment, left_out
from core_infra.process._runner.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from core_infra.build._builders.steps import BuildContext, Step

_SHELL = ("/bin/sh", "-c", 'umask 022; exec /bin/sh -euc "$1"', "hook")
_IN_PLACE = (
    "need a copy of the sources, but this type of project is built in place: "
    "use before_archive or after_archive"
)
COPY = "hooks"
"""The name of the copy for hooks that do not belong to a step."""


def hook_specs(
    context: BuildContext,
    name: str,
    commands: Sequence[str],
    *,
    directory: Path,
    env: Mapping[str, str],
    after: str,
) -> Iterator[RunSpec]:
    """The hooks of one kind, one after another.

    Args:
        context: the builder's input.
        name: the kind, with the step that it belongs to.
        commands: the commands for the shell.
        directory: where they run.
        env: more variables than the usual ones.
        after: the name of the spec that they follow.
    """
    variables = {"NAME": context.name, "VERSION": context.version, "COMMIT": context.commit, **env}
    for number, command in enumerate(commands, 1):
        spec = RunSpec(
            f"{name} {number}",
            _SHELL[0],
            (*_SHELL[1:], command),
            dir=str(directory),
            env={**left_out(context), **build_environment(context), **variables},
            after=[after],
        )
        yield spec
        after = spec.name


def step_variables(step: Step) -> dict[str, str]:
    """The variables of hooks that run for one target."""
    target = step.target
    return {
        "TARGET_OS": target.os if target else "",
        "TARGET_ARCH": target.arch if target else "",
        "OUTPUT_DIR": str(step.output),
    }


def hook_problems(context: BuildContext, steps: Sequence[Step]) -> list[str]:
    """Why the configured hooks cannot run, one sentence each."""
    if context.settings.hooks.in_builds and any(step.copy is None for step in steps):
        return [f"hooks.before, before_build and after_build {_IN_PLACE}"]
    return []
