"""``core-infra jobs``: run handlers on signals, and look at what was done."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import queue
import signal as signals
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core_infra.cli import jobs_config
from core_infra.framework.bus import Bus
from core_infra.jobrunner.actions import actions
from core_infra.jobrunner.config import PollerConfig
from core_infra.jobrunner.journal import Index, Journal
from core_infra.jobrunner.logs import JsonFormatter
from core_infra.jobrunner.poller import Poller
from core_infra.jobrunner.replay import replay
from core_infra.jobrunner.report import page
from core_infra.medium.local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner.actions import Action
    from core_infra.jobrunner.config import CycleReport

_LOG = logging.getLogger(__name__)
_COLOURS = {"done": "green", "failed": "red", "unknown": "yellow", "open": "blue"}

pass_config = click.make_pass_decorator(jobs_config.JobsConfig)
since_option = click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only days from this one on (UTC)."
)


@click.group("jobs")
@click.option(
    "--config", "path", default=jobs_config.DEFAULT, show_default=True, help="What to run."
)
@click.option("--journal", help="The journal's directory, instead of the one of the file.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("-v", "--verbose", is_flag=True, help="Log more than what goes wrong.")
@click.pass_context
def command(
    ctx: click.Context, path: str, journal: str | None, log_format: str, *, verbose: bool
) -> None:
    """Run handlers on signals of issues and pull requests, and show what was done."""
    if journal is not None and not Path(path).exists():
        config = jobs_config.JobsConfig(journal=journal)  # enough to look at a journal
    else:
        config = jobs_config.load(path)
        if journal is not None:
            config = config.model_copy(update={"journal": journal})
    ctx.obj = config
    chatty = verbose or ctx.invoked_subcommand == "run"
    _log(log_format, logging.INFO if chatty else logging.WARNING)


@command.command()
@click.option("--metrics-port", type=int, help="Answer Prometheus at this port of localhost.")
@pass_config
def run(config: jobs_config.JobsConfig, metrics_port: int | None) -> None:
    """Poll and act until stopped by SIGTERM or Ctrl-C."""
    bus = Bus()
    if metrics_port is not None:
        from core_infra.jobrunner.metrics import Metrics  # noqa: PLC0415 - needs an extra

        _LOG.info("metrics at %s", Metrics(bus).serve(metrics_port))
    with _poller(config, dry_run=config.dry_run, bus=bus) as poller:
        # A handler of signals may run anywhere in the main thread, also while that holds a lock
        # that stopping needs: so it only leaves a note, and this thread does nothing else.
        notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in (signals.SIGTERM, signals.SIGINT):
            signals.signal(number, lambda *_: notes.put("stop"))

        def work() -> None:
            try:
                poller.run()
            finally:
                notes.put("ended")

        thread = threading.Thread(target=work)
        thread.start()
        notes.get()
        poller.stop()
        thread.join()


@command.command()
@pass_config
def once(config: jobs_config.JobsConfig) -> None:
    """Go through one cycle. Exit code 1 if a source or an action failed."""
    with _poller(config, dry_run=config.dry_run) as poller:
        _show(poller.run_once())


@command.command("dry-run")
@pass_config
def dry_run(config: jobs_config.JobsConfig) -> None:
    """Tell what the next cycle would do, and do nothing."""
    with _poller(config, dry_run=True) as poller:
        _show(poller.run_once())


@command.command("journal")
@since_option
@click.option("--failed", is_flag=True, help="Only what is not done.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many; 0 for all.")
@pass_config
def show_journal(
    config: jobs_config.JobsConfig, since: dt.datetime | None, lines: int, *, failed: bool
) -> None:
    """List actions, the youngest last."""
    with _journal(config) as journal:
        found = actions(journal.entries(since=_day(since)))
    if failed:
        found = [action for action in found if action.outcome != "done"]
    table = Table("when", "handler", "item", "outcome", "took", "error", box=None)
    for action in found[-lines:] if lines else found:
        table.add_row(*_cells(action))
    Console().print(table)


@command.command("replay")
@since_option
@click.option("--all", "every", is_flag=True, help="Also decisions that are the same.")
@pass_config
def show_replay(config: jobs_config.JobsConfig, since: dt.datetime | None, *, every: bool) -> None:
    """Show where the handlers of the file would decide otherwise than the journal's."""
    _, handlers = jobs_config.parts(config)
    table = Table("when", "item", "then", "now", box=None)
    different = total = 0
    with _journal(config) as journal:
        for decision in replay(journal.entries(since=_day(since)), handlers):
            total += 1
            different += decision.differs
            if every or decision.differs:
                entry = decision.entry
                item = f"{entry.owner}/{entry.name}#{entry.pr or entry.child or entry.epic}"
                cells = (f"{entry.ts:%Y-%m-%d %H:%M:%S}", item, entry.action, decision.now or "-")
                table.add_row(*map(Text, cells))
    Console().print(table)
    click.echo(f"{different} of {total} decisions differ")


@command.command()
@click.option("--reindex", is_flag=True, help="Make the index anew from the files.")
@pass_config
def verify(config: jobs_config.JobsConfig, *, reindex: bool) -> None:
    """Check that no line of the journal was changed. Exit code 1 if one was."""
    with _journal(config) as journal:
        checks = journal.verify()
        if reindex:
            with Index(journal) as index:
                index.rebuild()
    for check in checks:
        for found in check.breaks:
            how = "torn by an interrupted write" if found.torn else "changed, or lines before it"
            click.echo(f"{check.path}: line {found.line}: {how}")
    tampered = sum(check.tampered for check in checks)
    lines = sum(check.entries for check in checks)
    click.echo(f"{lines} lines in {len(checks)} files, {tampered} files changed")
    if tampered:
        sys.exit(1)


@command.command()
@since_option
@click.option("-o", "--output", default="jobs.html", show_default=True)
@pass_config
def report(config: jobs_config.JobsConfig, since: dt.datetime | None, output: str) -> None:
    """Write a page that shows what was done."""
    with _journal(config) as journal:
        text = page(
            journal.entries(since=_day(since)), journal.verify(), now=dt.datetime.now(dt.UTC)
        )
    LocalMedium().write_text(output, text)
    click.echo(output)


@command.command()
@click.argument("before", type=click.DateTime(["%Y-%m-%d"]))
@pass_config
def prune(config: jobs_config.JobsConfig, before: dt.datetime) -> None:
    """Delete the journal's files of days before a date (UTC), unless something in them is open."""
    with _journal(config) as journal:
        with Index(journal):
            pass  # what they say stays known
        for path in journal.prune(before.date()):
            click.echo(path)


@contextlib.contextmanager
def _poller(
    config: jobs_config.JobsConfig, *, dry_run: bool, bus: Bus | None = None
) -> Iterator[Poller]:
    sources, handlers = jobs_config.parts(config)
    with (
        Journal(config.journal) as journal,
        Poller(
            PollerConfig(
                sources,
                handlers,
                journal,
                poll_interval=config.poll_interval,
                dry_run=dry_run,
                dry_run_handlers=config.dry_run_handlers,
                workers=config.workers,
                poll_timeout=config.poll_timeout,
                job_timeout=config.job_timeout,
                attempts=config.attempts,
                bus=bus,
            )
        ) as poller,
    ):
        yield poller


def _journal(config: jobs_config.JobsConfig) -> Journal:
    return Journal(config.journal)


def _log(style: str, level: int) -> None:
    handler = logging.StreamHandler()
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("core_infra")
    logger.handlers = [handler]
    logger.setLevel(level)


def _show(done: CycleReport) -> None:
    table = Table("handler", "item", "outcome", box=None)
    for job, steps, error in done.rehearsals:
        for step in steps or [error or "nothing"]:
            table.add_row(*map(Text, (job.action, job.signal.repo_full_name, f"would: {step}")))
    failed = bool(done.failures)
    for result in done.results:
        failed |= not result.success
        number = result.pr or result.child or result.epic
        item = f"{result.repo_owner}/{result.repo_name}#{number}"
        outcome = Text("done", "green") if result.success else Text(result.error, "red")
        table.add_row(Text(result.action), Text(item), outcome)
    Console().print(table)
    for source, error in done.failures.items():
        click.echo(f"source {source}: {error}", err=True)
    click.echo(f"{done.signals} signals, {len(done.results)} actions")
    if failed:
        sys.exit(1)


def _cells(action: Action) -> list[Text]:
    last = action.last
    took = "" if last.success is None else f"{last.duration_ms} ms"
    return [
        Text(f"{action.ended:%Y-%m-%d %H:%M:%S}"),
        Text(action.begun.action),
        Text(action.item),
        Text(action.outcome, _COLOURS.get(action.outcome, "")),
        Text(took),
        Text(last.error),
    ]


def _day(since: dt.datetime | None) -> dt.date:
    return dt.date.min if since is None else since.date()
