"""Runs the steps of a builder's plan."""

from __future__ import annotations

import errno
import functools
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from core_infra.build._builders.environment import build_environment, left_out, redact
from core_infra.build._builders.hooks import COPY as HOOKS_COPY
from core_infra.build._builders.hooks import hook_specs, step_variables
from core_infra.build._builders.sources import SourcesOwner, sources_of
from core_infra.build._builders.workspace import move
from core_infra.build._errors import ArtifactMissingError, BuildFailedError
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.process._runner.events import RunFinished, SpecFinished
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.spec import RunSpec
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.build._artifact import Artifact, Target
    from core_infra.build._builders.steps import BuildContext, Command, Step
    from core_infra.build._sources.sources import Sources
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult, RunResult

_SHOWN_LINES = 30
_FULL = "No space left on device"
# The umask determines the modes of new files, which get into wheels and packages.
_LAUNCH = ("/bin/sh", "-c", 'umask 022; exec "$@"', "build")


class StepOwner(SourcesOwner, Protocol):
    """The part of a builder that running its steps needs."""

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move what the tool left elsewhere to the step's output."""

    def collect(self, context: BuildContext, step: Step) -> list[Artifact]:
        """Return the artifacts in the step's output."""


def run_steps(
    builder: StepOwner,
    context: BuildContext,
    steps: Sequence[Step],
    targets: Sequence[Target],
    *,
    listener: Callable[[RunEvent], object] | None = None,
) -> list[Artifact]:
    """Run steps, several in parallel, and return the artifacts in the workspace.

    After a failure, nothing more is started.

    Args:
        builder: the builder that planned them.
        context: its input.
        steps: the steps to run.
        targets: the platforms.
        listener: called with an event at the start and end of each program.

    Raises:
        BuildFailedError: a program failed; the error has the end of its output.
        UnavailableError: the disk is full.
        CoreInfraError: the sources cannot be copied, or the commands made no artifact.
        KeyboardInterrupt: the user interrupted the build; all programs have been stopped.
    """
    first = {step.copy: _title(context, step) for step in reversed(steps) if step.copy}
    sources = functools.cache(lambda: sources_of(builder, context, targets))
    ready: dict[Path | None, str] = {}
    specs: list[RunSpec] = []
    for copy, name in first.items():
        specs += _copy_specs(sources, context, copy, name)
        ready[copy] = specs[-1].name
    for step in steps:
        specs += _specs(builder, context, step, ready.get(step.copy, ""))
    _run(context, specs, listener)
    return [artifact for step in steps for artifact in _collect(builder, context, step)]


def run_hooks(
    builder: StepOwner,
    context: BuildContext,
    name: str,
    commands: Sequence[str],
    targets: Sequence[Target],
    *,
    listener: Callable[[RunEvent], object] | None = None,
) -> None:
    """Run the hooks that belong to no single target, in a copy of the sources of their own.

    Args:
        builder: the builder.
        context: its input.
        name: the kind of hook.
        commands: the commands; without any, there is no copy.
        targets: the platforms.
        listener: called with an event at the start and end of each program.

    Raises:
        BuildFailedError: one failed; the error has the end of its output.
        CoreInfraError: the sources cannot be copied.
    """
    if not commands:
        return
    copy = context.copy(HOOKS_COPY)
    sources = functools.cache(lambda: sources_of(builder, context, targets))
    make = functools.partial(_copy, sources, context, copy)
    first = RunSpec(f"{name}: copy", call=lambda: None if copy.exists() else make())
    env = {"OUTPUT_DIR": str(context.assembly())}
    hooks = hook_specs(context, name, commands, directory=copy, env=env, after=first.name)
    _run(context, [first, *hooks], listener)


def _run(
    context: BuildContext,
    specs: Sequence[RunSpec],
    listener: Callable[[RunEvent], object] | None,
) -> None:
    with Service() as service:
        runner = Runner(
            service,
            workers=context.workers,
            keep_going=False,
            listener=listener and _redacting(listener),
        )
        result = runner.run_all(specs)
    if not result.success:
        _fail(result)


def _title(context: BuildContext, step: Step) -> str:
    return f"{context.whole.build} {step.name}" if context.whole else step.name


def label(command: Command) -> str:
    """A command as two or three words: ``go build``, ``python -m build``."""
    program, *rest = command.argv
    rest = [word for word in rest if word != "-P"]
    words = rest[:2] if rest[:1] == ["-m"] else rest[:1]
    return " ".join([program.rpartition("/")[2], *words])


def _redacting(listener: Callable[[RunEvent], object]) -> Callable[[RunEvent], None]:
    """Wrap a listener, so that it gets the output of programs without secrets."""

    def clean(result: RunResult) -> RunResult:
        output = redact(result.output, result.spec.env)
        return result if output == result.output else replace(result, output_bytes=output.encode())

    def listen(event: RunEvent) -> None:
        if isinstance(event, SpecFinished):
            event = SpecFinished(clean(event.result))
        elif isinstance(event, RunFinished):
            results = tuple(map(clean, event.result.results))
            event = RunFinished(replace(event.result, results=results))
        listener(event)

    return listen


def _copy_specs(
    sources: Callable[[], Sources], context: BuildContext, copy: Path, name: str
) -> Iterator[RunSpec]:
    first = RunSpec(f"{name}: copy", call=functools.partial(_copy, sources, context, copy))
    yield first
    commands = context.settings.hooks.before
    yield from hook_specs(
        context, f"{name}: before", commands, directory=copy, env={}, after=first.name
    )


def _specs(builder: StepOwner, context: BuildContext, step: Step, copied: str) -> Iterator[RunSpec]:
    environment = {**left_out(context), **build_environment(context)}
    title = _title(context, step)
    before = f"{title}: prepare"
    yield RunSpec(before, call=lambda: _prepare(step), after=[copied] if copied else [])
    for spec in _hooks(context, step, "before_build", before):
        before = spec.name
        yield spec
    for number, command in enumerate(step.commands, 1):
        name = f"{title}: {number} {label(command)}"
        yield RunSpec(
            name,
            _LAUNCH[0],
            (*_LAUNCH[1:], *context.launcher, *command.argv),
            dir=str(command.dir),
            env={**environment, **command.env},
            after=[before],
        )
        before = name
    gather = f"{title}: gather"
    yield RunSpec(gather, call=lambda: builder.gather(context, step), after=[before])
    yield from _hooks(context, step, "after_build", gather)


def _hooks(context: BuildContext, step: Step, kind: str, after: str) -> Iterator[RunSpec]:
    if step.copy is None:
        return iter(())
    return hook_specs(
        context,
        f"{_title(context, step)}: {kind}",
        getattr(context.settings.hooks, kind),
        directory=step.copy,
        env=step_variables(step),
        after=after,
    )


def _collect(builder: StepOwner, context: BuildContext, step: Step) -> list[Artifact]:
    """Move the artifacts of a step beside the output directory, and return them."""
    made = []
    found = builder.collect(context, step)
    if not found:
        raise ArtifactMissingError(
            f"building {context.project_dir} for {_title(context, step)} made no artifacts",
            why="all commands passed, and none of them wrote one",
        )
    for one in found:
        path = Path(one.path)
        packed = step.packed or one.tree  # a directory cannot be shipped as it is
        inside = path.relative_to(context.staging()) if packed else one.name
        new = context.assembly() / inside
        move(path, new)
        made.append(replace(one, path=str(new)))
    return made


def _copy(sources: Callable[[], Sources], context: BuildContext, copy: Path) -> None:
    found = sources()
    depth = len(found.inside.parts)
    if not depth:
        found.copy(copy, context.epoch)
    elif copy.parts[-depth:] == found.inside.parts:
        found.copy(copy.parents[depth - 1], context.epoch)
    else:  # a builder that does not use BuildContext.copy
        root = copy.with_name(f"{copy.name}-repository")
        found.copy(root, context.epoch)
        copy.symlink_to(root / found.inside)


def _prepare(step: Step) -> None:
    if step.copy is not None:
        for name, text in step.seeds.items():
            (step.copy / name).parent.mkdir(parents=True, exist_ok=True)
            (step.copy / name).write_text(text)
    for folder in (step.output, *step.folders):
        folder.mkdir(parents=True, exist_ok=True)


def _fail(result: RunAllResult) -> NoReturn:
    first, *others = result.failures
    also = f"\nThese failed as well: {', '.join(one.name for one in others)}" if others else ""
    output = redact(first.output, first.spec.env).rstrip()
    error = first.error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or _FULL in output:
        todo = "Free disk space (see df -h); no unfinished files are left."
        raise UnavailableError(f"{first.name} failed", why="the disk is full", todo=todo) from error
    if error is not None and not first.spec.command:
        error.add_note(f"while building {first.name}{also}")
        raise error
    argv = [redact(word, first.spec.env) for word in first.spec.args[len(_LAUNCH) - 1 :]]
    raise BuildFailedError(
        f"{first.name} failed ({first.reason})",
        why="\n".join(["", *output.splitlines()[-_SHOWN_LINES:]]) + also
        if output
        else also.strip(),
        todo=f"The command was: {shlex.join(argv)}",
        command=argv,
        exit_code=first.exit_code,
        stdout=output.encode(),
        stderr=b"",
        step=first.name,
    ) from (error if isinstance(error, CoreInfraError) else None)
