"""The group ``core-infra jobs``, and the configuration that its commands share."""

from __future__ import annotations

import functools
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec

import click

from core_infra._cli.lazy_group import Command, LazyGroup
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from core_infra.jobrunner._config.settings import JobsConfig

P = ParamSpec("P")

COMMANDS: dict[str, Command] = {
    "check": Command("check:check", "Check the configuration against the forges; read only."),
    "dry-run": Command("run:dry_run", "Print what the next cycle would do."),
    "forget": Command("amend:forget", "Let actions on an item be as if they had never been."),
    "journal": Command("journal:show_journal", "List actions, the latest last."),
    "once": Command("run:once", "Run one cycle."),
    "prune": Command("journal:prune", "Delete the journal's files of days before a date."),
    "replay": Command("journal:show_replay", "Show where handlers would now decide differently."),
    "report": Command("journal:report", "Write an HTML page of all actions."),
    "resolve": Command("amend:resolve", "Record that failed actions on an item are done."),
    "retry": Command("amend:retry", "Have failed actions on an item tried again."),
    "run": Command("run:run", "Poll and act until stopped by SIGTERM or Ctrl-C."),
    "verify": Command("journal:verify", "Check that no line of the journal was changed."),
}


class ConfigChoice(NamedTuple):
    """The configuration file and the journal that the command line names.

    Attributes:
        path: the file.
        journal: a journal's directory, instead of the one in the file.
    """

    path: str
    journal: str | None

    def load(self) -> JobsConfig:
        """Read the file; raises as :func:`load_jobs_config` does."""
        from core_infra.jobrunner._config import load, settings  # noqa: PLC0415 - not for --help

        if self.journal is None:
            return load.load_jobs_config(self.path)
        if not Path(self.path).exists():
            return settings.JobsConfig(journal=self.journal)  # enough to look at a journal
        return replace(load.load_jobs_config(self.path), journal=self.journal)

    def reloaded(self, old: JobsConfig) -> JobsConfig:
        """Read the file again; the old configuration if it was spoiled at this very moment."""
        try:
            return self.load()
        except CoreInfraError:
            return old

    def state(self) -> tuple[int, int]:
        """What changes when the file does."""
        try:
            found = Path(self.path).stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_size)


pass_source = click.make_pass_decorator(ConfigChoice)


def pass_config(call: Callable[Concatenate[JobsConfig, P], None]) -> Callable[P, None]:
    """Pass the configuration to a command. It is read when the command runs: --help needs none."""

    @click.pass_obj
    def with_config(choice: ConfigChoice, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call(choice.load(), *args, **kwargs)

    return functools.update_wrapper(with_config, call)


@click.command("jobs", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.jobs")
@click.option(
    "--config",
    "path",
    default=".core/jobs.yaml",
    show_default=True,
    help="The configuration file.",
)
@click.option("--journal", help="The journal's directory; default: from the file.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("-v", "--verbose", is_flag=True, help="Log more than errors.")
@click.pass_context
def command(
    ctx: click.Context, path: str, journal: str | None, log_format: str, *, verbose: bool
) -> None:
    """Run a bot's handlers on signals of issues and pull requests, and show its journal."""
    ctx.obj = ConfigChoice(path, journal)
    is_verbose = verbose or ctx.invoked_subcommand == "run"
    _log(log_format, logging.INFO if is_verbose else logging.WARNING)


def print_table(table: Table) -> None:
    """Print a table; without a terminal, lines are neither wrapped nor cut."""
    from rich.console import Console  # noqa: PLC0415 - not for --help

    width = None if sys.stdout.isatty() else 10_000
    Console(width=width).print(table, soft_wrap=width is not None)


def _log(style: str, level: int) -> None:
    from core_infra.jobrunner._logging import JsonFormatter  # noqa: PLC0415 - not for --help

    handler = logging.StreamHandler()
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("core_infra")
    logger.handlers = [handler]
    logger.setLevel(level)
