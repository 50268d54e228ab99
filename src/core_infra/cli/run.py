"""``core-infra run``: the tasks of a file, by their dependencies."""

from __future__ import annotations

import contextlib
import os
import posixpath
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console

from core_infra.cli.circumstances import Terminated
from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError
from core_infra.medium.local import LocalMedium
from core_infra.process.runner import reports, words
from core_infra.process.runner.board import Board
from core_infra.process.runner.durations import Durations
from core_infra.process.runner.graph import Graph
from core_infra.process.runner.plain import Plain
from core_infra.process.runner.results import RunInterruptedError
from core_infra.process.runner.runner import Runner
from core_infra.process.runner.taskfile import load_tasks
from core_infra.process.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from core_infra.medium.medium import Medium
    from core_infra.process.runner.events import Event
    from core_infra.process.runner.results import RunAllResult
    from core_infra.process.runner.spec import RunSpec
    from core_infra.process.runner.taskfile import TaskFile

INTERRUPTED = 130
SIGNALLED = 128


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("names", nargs=-1)
@click.option("-j", "--workers", type=click.IntRange(1), help="How many run at once.")
@click.option("--stop", is_flag=True, help="After a failure start nothing more.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would run, and in which order.")
@click.option(
    "-v", "--verbose", is_flag=True, help="On a terminal, show what passing tasks write, too."
)
@click.option("--junit", type=click.Path(), help="Write JUnit XML to this file.")
@click.option("--json", "json_file", type=click.Path(), help="Write JSON to this file.")
@click.option("--trace", type=click.Path(), help="Write a Chrome trace to this file.")
def command(
    file: str,
    names: tuple[str, ...],
    *,
    workers: int | None,
    stop: bool,
    dry_run: bool,
    verbose: bool,
    junit: str | None,
    json_file: str | None,
    trace: str | None,
) -> None:
    """Run the tasks in FILE: all of them, or NAMES and what they wait for.

    How long each takes is remembered in .core/cache beside FILE, so that the longest
    path starts first. On a terminal a board shows what runs; the output of what failed comes last.
    """
    medium = LocalMedium()
    reported = [(junit, reports.to_junit), (json_file, reports.to_json), (trace, reports.to_trace)]
    writers = {path: write for path, write in reported if path is not None}
    if not dry_run:
        _check(medium, writers)
    tasks = load_tasks(medium, file)
    specs, cleanup = _chosen(tasks, names)
    cache = posixpath.join(posixpath.dirname(file), ".core", "cache")
    with Service() as service, _listener(verbose=verbose) as listener:
        runner = Runner(
            service,
            workers=workers or tasks.workers,
            pools=tasks.pools,
            keep_going=not stop,
            durations=Durations(medium, posixpath.join(cache, "durations.json")),
            listener=listener,
        )
        if dry_run:
            click.echo("\n".join(words.plan(runner.plan(specs))))
            if cleanup:
                click.echo("finally:\n" + "\n".join(words.plan(runner.plan(cleanup))))
            return
        _ignore(medium, cache)
        told: BaseException | None = None
        try:
            result = runner.run_all(specs, cleanup=cleanup)
        except RunInterruptedError as error:
            result = error.result
            told = error.__cause__
    for path, write in writers.items():
        medium.write_text(path, write(result))
    if result.interrupted:  # all is said: nothing more but the exit code
        raise SystemExit(SIGNALLED + told.number if isinstance(told, Terminated) else INTERRUPTED)
    _end(file, result)


def _chosen(tasks: TaskFile, names: Collection[str]) -> tuple[Sequence[RunSpec], Sequence[RunSpec]]:
    """What is to be run, and what afterwards."""
    if not names:
        return tasks.specs, tasks.cleanup
    specs = Graph([*tasks.specs, *tasks.cleanup], tasks.pools).upstream(names)
    if any(spec in tasks.cleanup for spec in specs):
        return specs, ()  # to clean up by hand is all that it is about
    return specs, tasks.cleanup


def _check(medium: Medium, paths: Collection[str]) -> None:
    """That reports can be written: better known before the tasks have run than after."""
    for path in paths:
        place = posixpath.dirname(path) or "."
        while not medium.exists(place):
            place = posixpath.dirname(place) or "."
        if medium.is_dir(path):
            raise InvalidError(f"cannot write {path}", why="it is a directory")
        if not medium.is_dir(place) or not os.access(place, os.W_OK):
            raise InvalidError(f"cannot write {path}", why=f"nothing can be made in {place}")


def _ignore(medium: Medium, cache: str) -> None:
    """Keep a cache out of git, as other tools' caches do it."""
    path = posixpath.join(cache, ".gitignore")
    with contextlib.suppress(CoreInfraError):  # where nothing can be written, there is no cache
        if not medium.exists(path):
            medium.write_text(path, "*\n")


def _listener(*, verbose: bool) -> contextlib.AbstractContextManager[Callable[[Event], None]]:
    console = Console()
    if console.is_terminal:
        return Board(console, verbose=verbose)
    return contextlib.nullcontext(Plain(sys.stdout))


def _end(file: str, result: RunAllResult) -> None:
    if not result.acceptable:
        # What failed has been told; here it becomes the exit code.
        raise CommandFailedError(f"not all tasks of {file} passed")
