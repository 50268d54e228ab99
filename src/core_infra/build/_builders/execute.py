"""Carries out what a builder has planned."""

from __future__ import annotations

import errno
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from core_infra.build._builders.environment import build_environment, redact
from core_infra.build._builders.sources import copy_sources
from core_infra.build._builders.workspace import place
from core_infra.build._errors import BuildFailedError
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.process._runner.events import RunFinished, SpecFinished
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.spec import RunSpec
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._builders.builder import Builder, Command, Config, Step
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult, RunResult

_SHOWN_LINES = 30
_FULL = "No space left on device"
# The modes of new files follow the umask, and get into wheels and packages.
_LAUNCH = ("/bin/sh", "-c", 'umask 022; exec "$@"', "build")


def run_steps(
    builder: Builder,
    config: Config,
    steps: Sequence[Step],
    *,
    listener: Callable[[RunEvent], object] | None = None,
) -> list[Artifact]:
    """Run steps, several at once; what they made, still in the workspace.

    After a failure nothing more is started.

    Args:
        builder: has planned them.
        config: what it was told.
        steps: what to run.
        listener: hears of the start and the end of each program.

    Raises:
        BuildFailedError: a program failed; the error has the end of what it said.
        UnavailableError: the disk is full.
        CoreInfraError: the sources cannot be copied, or what was made is not what is shipped.
        KeyboardInterrupt: the user has had enough; nothing runs any more.
    """
    specs = [spec for step in steps for spec in _specs(builder, config, step)]
    with Service() as service:
        runner = Runner(
            service,
            workers=config.workers,
            keep_going=False,
            listener=listener and _discreet(listener),
        )
        result = runner.run_all(specs)
    if not result.success:
        _fail(result)
    return [artifact for step in steps for artifact in _collect(builder, config, step)]


def label(command: Command) -> str:
    """A command in two or three words: ``go build``, ``python -m build``."""
    program, *rest = command.argv
    words = rest[:2] if rest[:1] == ["-m"] else rest[:1]
    return " ".join([program.rpartition("/")[2], *words])


def _discreet(listener: Callable[[RunEvent], object]) -> Callable[[RunEvent], None]:
    """Take secrets out of what programs said before a listener hears it."""

    def clean(result: RunResult) -> RunResult:
        said = redact(result.output, result.spec.env)
        return result if said == result.output else replace(result, output_bytes=said.encode())

    def hear(event: RunEvent) -> None:
        if isinstance(event, SpecFinished):
            event = SpecFinished(clean(event.result))
        elif isinstance(event, RunFinished):
            results = tuple(map(clean, event.result.results))
            event = RunFinished(replace(event.result, results=results))
        listener(event)

    return hear


def _specs(builder: Builder, config: Config, step: Step) -> Iterator[RunSpec]:
    environment = build_environment(config)
    before = f"{step.name}: prepare"
    yield RunSpec(before, call=lambda: _prepare(builder, config, step))
    for number, command in enumerate(step.commands, 1):
        name = f"{step.name}: {number} {label(command)}"
        yield RunSpec(
            name,
            _LAUNCH[0],
            (*_LAUNCH[1:], *config.launcher, *command.argv),
            dir=str(command.dir),
            env={**environment, **command.env},
            after=[before],
        )
        before = name
    yield RunSpec(f"{step.name}: gather", call=lambda: builder.gather(config, step), after=[before])


def _collect(builder: Builder, config: Config, step: Step) -> list[Artifact]:
    made = builder.collect(config, step)
    if step.packed:
        return made
    top = config.staging()
    moves = [(Path(one.path), top / one.name) for one in made]
    place(moves, top.parent)
    return [replace(one, path=str(new)) for one, (_, new) in zip(made, moves, strict=True)]


def _prepare(builder: Builder, config: Config, step: Step) -> None:
    if step.copy is not None:
        copy_sources(
            config.project_dir,
            step.copy,
            config.epoch,
            exclude=config.output_dir,
            keep=builder.keeps,
        )
        for name, text in step.seeds.items():
            (step.copy / name).parent.mkdir(parents=True, exist_ok=True)
            (step.copy / name).write_text(text)
    for folder in (step.output, *step.folders):
        folder.mkdir(parents=True, exist_ok=True)


def _fail(result: RunAllResult) -> NoReturn:
    first, *others = result.failures
    also = f"\nThese failed as well: {', '.join(one.name for one in others)}" if others else ""
    said = redact(first.output, first.spec.env).rstrip()
    error = first.error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or _FULL in said:
        todo = "Make room (df -h shows where); nothing unfinished is left."
        raise UnavailableError(f"{first.name} failed", why="the disk is full", todo=todo) from error
    if error is not None and not first.spec.command:
        error.add_note(f"while building {first.name}{also}")
        raise error
    argv = [redact(word, first.spec.env) for word in first.spec.args[len(_LAUNCH) - 1 :]]
    raise BuildFailedError(
        f"{first.name} failed ({first.reason})",
        why="\n".join(["", *said.splitlines()[-_SHOWN_LINES:]]) + also if said else also.strip(),
        todo=f"The command was: {shlex.join(argv)}",
        command=argv,
        exit_code=first.exit_code,
        stdout=said.encode(),
        stderr=b"",
        step=first.name,
    ) from (error if isinstance(error, CoreInfraError) else None)
