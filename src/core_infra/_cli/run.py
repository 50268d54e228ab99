"""``core-infra run``: runs the tasks of a file in dependency order."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from core_infra._cli.exit_codes import INTERRUPTED, SIGNALLED, Terminated
from core_infra._cli.run_watch import Watcher
from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError, NotFoundError
from core_infra.medium._local import LocalMedium
from core_infra.process._runner import formatting
from core_infra.process._runner.cancellation import Cancellation
from core_infra.process._runner.durations import Durations
from core_infra.process._runner.freshness import Freshness
from core_infra.process._runner.graph import Graph
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

_TERMINAL_VARIABLES = {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
"""Variables by which rich takes something else for a terminal."""
_ASSIGNMENT = re.compile(rf"{NAME.pattern}=")


FILES = ("tasks.yml", "tasks.yaml", ".core/tasks.yml")
"""The usual names of task files."""


class _Command(click.Command):
    """A command that separates the arguments after ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before ``--``; the others become the context's object."""
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
    writers = _writers(junit, json_file, trace)
    if not dry_run:
        _check(medium, writers)
    variables = dict(one.split("=", 1) for one in given if _ASSIGNMENT.match(one))
    given = tuple(one for one in given if not _ASSIGNMENT.match(one))
    path, names = _file_and_names(medium, file, given)
    cache = posixpath.join(posixpath.dirname(path), ".core", "cache")
    durations = Durations(medium, posixpath.join(cache, "durations.json"))

    def load() -> Selection:
        return _select(load_tasks(medium, path, variables), names, args)

    def run_once(selection: Selection, cancel: Cancellation | None = None) -> RunAllResult:
        with Service() as service, _listener(output, verbose=verbose) as listener:
            runner = Runner(
                service,
                workers=workers or selection.tasks.workers,
                pools=selection.tasks.pools,
                keep_going=not stop,
                durations=durations,
                listener=listener,
                live=output == "live",
                freshness=Freshness(medium, posixpath.join(cache, "tasks"), force=force),
            )
            interrupted: BaseException | None = None
            try:
                result = runner.run_all(selection.specs, cleanup=selection.cleanup, cancel=cancel)
            except RunInterruptedError as error:
                result = error.result
                interrupted = error.__cause__ or error
        for report, write in writers.items():
            medium.write_text(report, write(result))
        if interrupted is not None:  # the display has shown everything: only the exit code is left
            raise SystemExit(_code_of(interrupted))
        return result

    if list_only:
        _list(load_tasks(medium, path, variables))
    elif dry_run:
        _print_plan(load(), workers, durations)
    elif watch:
        _ignore(medium, cache)
        _watch(path, writers, load, run_once)
    else:
        selection = load()
        _ignore(medium, cache)
        _check_result(path, run_once(selection))


class Selection(NamedTuple):
    """The tasks to run.

    Attributes:
        tasks: the task file.
        specs: the tasks to run.
        cleanup: the tasks to run afterwards.
    """

    tasks: TaskFile
    specs: Sequence[RunSpec]
    cleanup: Sequence[RunSpec]


def _watch(
    path: str,
    own: Collection[str],
    load: Callable[[], Selection],
    run_once: Callable[[Selection, Cancellation], object],
) -> NoReturn:
    """Run again whenever a file changes, the task file included."""
    with Watcher(path) as watcher:
        while True:
            cancel = Cancellation()
            watcher.start_run((), (path,), own, cancel)
            try:
                selection = load()
                watcher.start_run(
                    [*selection.specs, *selection.cleanup], selection.tasks.files, own, cancel
                )
                run_once(selection, cancel)
            except CoreInfraError as error:  # in the file, which may be half-written
                click.echo(f"core-infra: {error}", err=True)
            if not cancel.cancelled:
                click.echo("\nwaiting for changes; Ctrl-C ends")
            watcher.wait()


def _print_plan(selection: Selection, workers: int | None, durations: Durations) -> None:
    tasks = selection.tasks
    with Service() as service:
        runner = Runner(
            service, workers=workers or tasks.workers, pools=tasks.pools, durations=durations
        )
        click.echo("\n".join(formatting.plan(runner.plan(selection.specs))))
        if selection.cleanup:
            click.echo("finally:\n" + "\n".join(formatting.plan(runner.plan(selection.cleanup))))


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
        "there is no task file",
        why=f"neither {', '.join(FILES[:-1])} nor {FILES[-1]} is here",
        todo="Name one: core-infra run FILE.",
    )


def _list(tasks: TaskFile) -> None:
    specs = [*tasks.specs, *tasks.cleanup]
    width = max((len(spec.name) for spec in specs), default=0)
    for spec in specs:
        click.echo(f"{spec.name:<{width}}  {spec.description}".rstrip())


def _select(tasks: TaskFile, names: Collection[str], args: Sequence[str]) -> Selection:
    if args and not names:
        raise InvalidError(
            f"no task is named for the arguments {shlex.join(args)}",
            why="what comes after -- is for the named tasks",
        )
    if not names:
        return Selection(tasks, tasks.specs, tasks.cleanup)
    specs = Graph([*tasks.specs, *tasks.cleanup], tasks.pools).upstream(names)
    by_hand = any(spec in tasks.cleanup for spec in specs)  # named: clean up only that
    if args:
        specs = [with_args(spec, args) if spec.name in names else spec for spec in specs]
    return Selection(tasks, specs, () if by_hand else tasks.cleanup)


def _writers(
    junit: str | None, json_file: str | None, trace: str | None
) -> dict[str, Callable[[RunAllResult], str]]:
    """The reports to be written, by their paths."""
    if junit is json_file is trace is None:
        return {}
    from core_infra.process._runner import reports  # noqa: PLC0415 - slow, and most runs need none

    reported = [(junit, reports.to_junit), (json_file, reports.to_json), (trace, reports.to_trace)]
    return {path: write for path, write in reported if path is not None}


def _check(medium: Medium, paths: Collection[str]) -> None:
    """Check that reports can be written, before the tasks run."""
    for path in paths:
        place = posixpath.dirname(path) or "."
        while not medium.exists(place):
            place = posixpath.dirname(place) or "."
        if medium.is_dir(path):
            raise InvalidError(f"cannot write {path}", why="it is a directory")
        if not medium.is_dir(place) or not os.access(place, os.W_OK):
            raise InvalidError(f"cannot write {path}", why=f"{place} is not a writable directory")


def _ignore(medium: Medium, cache: str) -> None:
    """Keep the cache out of git, as other tools do."""
    path = posixpath.join(cache, ".gitignore")
    with contextlib.suppress(CoreInfraError):  # without write permission there is no cache
        if not medium.exists(path):
            medium.write_text(path, "*\n")


def _listener(
    output: str, *, verbose: bool
) -> contextlib.AbstractContextManager[Callable[[RunEvent], None]]:
    plain = LineDisplay(sys.stdout, colours=False) if output == "live" else LogDisplay(sys.stdout)
    if not (sys.stdout.isatty() or _TERMINAL_VARIABLES & os.environ.keys()):
        return contextlib.nullcontext(plain)
    from rich.console import Console  # noqa: PLC0415 - a third of the start, and CI needs no colours

    from core_infra.process._runner.live_display import LiveDisplay  # noqa: PLC0415 - imports rich

    console = Console()
    if not console.is_terminal:
        return contextlib.nullcontext(plain)
    if output == "live":
        return contextlib.nullcontext(LineDisplay(sys.stdout, colours=not console.no_color))
    return LiveDisplay(console, verbose=verbose)


def _code_of(interrupted: BaseException) -> int:
    return SIGNALLED + interrupted.number if isinstance(interrupted, Terminated) else INTERRUPTED


def _check_result(file: str, result: RunAllResult) -> None:
    if not result.acceptable:
        # The display has shown what failed; this sets the exit code.
        raise CommandFailedError(f"not all tasks of {file} passed")
