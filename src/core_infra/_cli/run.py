"""``core-infra run``: the tasks of a file, by their dependencies."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click
from rich.console import Console

from core_infra._cli.exit_codes import Terminated
from core_infra._cli.run_watch import Watcher
from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError, NotFoundError
from core_infra.medium._local import LocalMedium
from core_infra.process._runner import formatting, reports
from core_infra.process._runner.cancellation import Cancellation
from core_infra.process._runner.durations import Durations
from core_infra.process._runner.freshness import Freshness
from core_infra.process._runner.graph import Graph
from core_infra.process._runner.live_display import LiveDisplay
from core_infra.process._runner.results import RunInterruptedError
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.taskfile import load_tasks, with_args
from core_infra.process._runner.text_display import LineDisplay, LogDisplay
from core_infra.process._runner.variables import NAME
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from core_infra.medium._medium import Medium
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._runner.taskfile import TaskFile

_ASSIGNMENT = re.compile(rf"{NAME.pattern}=")
INTERRUPTED = 130
SIGNALLED = 128


FILES = ("tasks.yml", "tasks.yaml", ".core/tasks.yml")
"""Where tasks are, unless somebody says where."""


class _Command(click.Command):
    """Keeps what comes after ``--`` apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is before it."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[end + 1 :])
        return super().parse_args(ctx, args[:end])


@click.command(cls=_Command, options_metavar="[OPTIONS]")
@click.argument("given", metavar="[FILE] [NAMES]... [NAME=VALUE]... [-- ARGS...]", nargs=-1)
@click.option("-f", "--file", help="The task file; default: FILE.")
@click.option("--list", "list_only", is_flag=True, help="List the tasks with their descriptions.")
@click.option("-j", "--workers", type=click.IntRange(1), help="How many tasks run at once.")
@click.option("--stop", is_flag=True, help="Start nothing more after a failure.")
@click.option("--force", is_flag=True, help="Also run tasks that are up to date.")
@click.option("--watch", is_flag=True, help="Run again whenever inputs of the tasks change.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would run, in order.")
@click.option(
    "-v", "--verbose", is_flag=True, help="On a terminal, also show the output of passing tasks."
)
@click.option(
    "--output",
    type=click.Choice(["end", "live"]),
    default="end",
    help="Show output when a task has ended, or each line as it arrives.",
)
@click.option("--junit", type=click.Path(), help="Write JUnit XML to this file.")
@click.option("--json", "json_file", type=click.Path(), help="Write JSON to this file.")
@click.option("--trace", type=click.Path(), help="Write a Chrome trace to this file.")
@click.pass_obj
def command(
    args: tuple[str, ...],
    *,
    given: tuple[str, ...],
    file: str | None,
    list_only: bool,
    force: bool,
    watch: bool,
    output: str,
    workers: int | None,
    stop: bool,
    dry_run: bool,
    verbose: bool,
    junit: str | None,
    json_file: str | None,
    trace: str | None,
) -> None:
    """Run the tasks in FILE: all of them, or NAMES and their dependencies.

    FILE is tasks.yml, tasks.yaml or .core/tasks.yml, unless the first argument is a file or ends in
    .yml or .yaml. NAME=VALUE sets a variable of the file. ARGS are appended to the commands of the
    named tasks.

    Durations are stored in .core/cache beside FILE, so that the longest path starts first. On a
    terminal, a live display shows the running tasks; the output of failed ones comes last.
    """
    medium = LocalMedium()
    reported = [(junit, reports.to_junit), (json_file, reports.to_json), (trace, reports.to_trace)]
    writers = {path: write for path, write in reported if path is not None}
    if not dry_run:
        _check(medium, writers)
    variables = dict(one.split("=", 1) for one in given if _ASSIGNMENT.match(one))
    given = tuple(one for one in given if not _ASSIGNMENT.match(one))
    path, names = _file_and_names(medium, file, given)
    cache = posixpath.join(posixpath.dirname(path), ".core", "cache")
    durations = Durations(medium, posixpath.join(cache, "durations.json"))

    def load() -> Chosen:
        return _chosen(load_tasks(medium, path, variables), names, args)

    def run_once(chosen: Chosen, cancel: Cancellation | None = None) -> RunAllResult:
        with Service() as service, _listener(output, verbose=verbose) as listener:
            runner = Runner(
                service,
                workers=workers or chosen.tasks.workers,
                pools=chosen.tasks.pools,
                keep_going=not stop,
                durations=durations,
                listener=listener,
                live=output == "live",
                freshness=Freshness(medium, posixpath.join(cache, "tasks"), force=force),
            )
            told: BaseException | None = None
            try:
                result = runner.run_all(chosen.specs, cleanup=chosen.cleanup, cancel=cancel)
            except RunInterruptedError as error:
                result = error.result
                told = error.__cause__ or error
        for report, write in writers.items():
            medium.write_text(report, write(result))
        if told is not None:  # all is said: nothing more but the exit code
            number = SIGNALLED + told.number if isinstance(told, Terminated) else INTERRUPTED
            raise SystemExit(number)
        return result

    if list_only:
        _list(load_tasks(medium, path, variables))
    elif dry_run:
        _tell_plan(load(), workers, durations)
    elif watch:
        _ignore(medium, cache)
        _watch(path, writers, load, run_once)
    else:
        chosen = load()
        _ignore(medium, cache)
        _end(path, run_once(chosen))


class Chosen(NamedTuple):
    """What is to be run, and what afterwards."""

    tasks: TaskFile
    specs: Sequence[RunSpec]
    cleanup: Sequence[RunSpec]


def _watch(
    path: str,
    own: Collection[str],
    load: Callable[[], Chosen],
    run_once: Callable[[Chosen, Cancellation], object],
) -> NoReturn:
    """Run again whenever something changes; the file itself may have changed, too."""
    with Watcher(path) as watcher:
        while True:
            cancel = Cancellation()
            watcher.begin((), (path,), own, cancel)
            try:
                chosen = load()
                watcher.begin([*chosen.specs, *chosen.cleanup], chosen.tasks.files, own, cancel)
                run_once(chosen, cancel)
            except CoreInfraError as error:  # of the file, which may be half written
                click.echo(f"core-infra: {error}", err=True)
            if not cancel.cancelled:
                click.echo("\nwaiting for changes; Ctrl-C ends")
            watcher.wait()


def _tell_plan(chosen: Chosen, workers: int | None, durations: Durations) -> None:
    tasks = chosen.tasks
    with Service() as service:
        runner = Runner(
            service, workers=workers or tasks.workers, pools=tasks.pools, durations=durations
        )
        click.echo("\n".join(formatting.plan(runner.plan(chosen.specs))))
        if chosen.cleanup:
            click.echo("finally:\n" + "\n".join(formatting.plan(runner.plan(chosen.cleanup))))


def _file_and_names(
    medium: Medium, file: str | None, given: Sequence[str]
) -> tuple[str, Sequence[str]]:
    if file is not None:
        return file, given
    if given and (given[0].endswith((".yml", ".yaml")) or medium.is_file(given[0])):
        return given[0], given[1:]
    for usual in FILES:
        if medium.is_file(usual):
            return usual, given
    raise NotFoundError(
        "there is no file of tasks",
        why=f"neither {', '.join(FILES[:-1])} nor {FILES[-1]} is here",
        todo="Name one: core-infra run FILE.",
    )


def _list(tasks: TaskFile) -> None:
    specs = [*tasks.specs, *tasks.cleanup]
    width = max((len(spec.name) for spec in specs), default=0)
    for spec in specs:
        click.echo(f"{spec.name:<{width}}  {spec.description}".rstrip())


def _chosen(tasks: TaskFile, names: Collection[str], args: Sequence[str]) -> Chosen:
    if args and not names:
        raise InvalidError(
            f"nothing takes {shlex.join(args)}",
            why="what comes after -- is for the named tasks, and none is named",
        )
    if not names:
        return Chosen(tasks, tasks.specs, tasks.cleanup)
    specs = Graph([*tasks.specs, *tasks.cleanup], tasks.pools).upstream(names)
    by_hand = any(spec in tasks.cleanup for spec in specs)  # to clean up is all that it is about
    if args:
        specs = [with_args(spec, args) if spec.name in names else spec for spec in specs]
    return Chosen(tasks, specs, () if by_hand else tasks.cleanup)


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


def _listener(
    output: str, *, verbose: bool
) -> contextlib.AbstractContextManager[Callable[[RunEvent], None]]:
    console = Console()
    if output == "live":
        colours = console.is_terminal and not console.no_color
        return contextlib.nullcontext(LineDisplay(sys.stdout, colours=colours))
    if console.is_terminal:
        return LiveDisplay(console, verbose=verbose)
    return contextlib.nullcontext(LogDisplay(sys.stdout))


def _end(file: str, result: RunAllResult) -> None:
    if not result.acceptable:
        # What failed has been told; here it becomes the exit code.
        raise CommandFailedError(f"not all tasks of {file} passed")
