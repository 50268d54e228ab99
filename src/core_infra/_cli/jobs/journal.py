"""``core-infra jobs journal``, ``replay``, ``verify``, ``report`` and ``prune``."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from core_infra._cli.jobs.group import pass_config, print_table
from core_infra._wording import count
from core_infra.jobrunner._config.parts import make_parts, open_journal
from core_infra.jobrunner._journal.actions import group_actions
from core_infra.jobrunner._journal.html_report import html_report
from core_infra.jobrunner._journal.index import Index
from core_infra.jobrunner._replay import replay
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from core_infra.jobrunner._config.settings import JobsConfig
    from core_infra.jobrunner._journal.actions import Action

_COLOURS = {"done": "green", "failed": "red", "unknown": "yellow", "open": "blue"}
_DAY = click.DateTime(["%Y-%m-%d"])
since_option = click.option(
    "--since", type=_DAY, metavar="YYYY-MM-DD", help="Only this day and later ones (UTC)."
)


@click.command("journal")
@since_option
@click.option("--failed", is_flag=True, help="Only actions that are not done.")
@click.option("-n", "--lines", default=50, show_default=True, help="The number of lines; 0: all.")
@pass_config
def show_journal(
    config: JobsConfig, since: dt.datetime | None, lines: int, *, failed: bool
) -> None:
    """List actions, the latest last."""
    with open_journal(config) as journal:
        found = group_actions(journal.entries(since=_day(since)))
    if failed:
        found = [action for action in found if action.outcome != "done"]
    table = Table("when", "handler", "item", "outcome", "took", "error", box=None)
    for action in found[-lines:] if lines else found:
        table.add_row(*_cells(action))
    print_table(table)


@click.command("replay")
@since_option
@click.option("--all", "every", is_flag=True, help="Also show equal decisions.")
@pass_config
def show_replay(config: JobsConfig, since: dt.datetime | None, *, every: bool) -> None:
    """Show where the configured handlers would now decide differently."""
    _, handlers = make_parts(config)
    table = Table("when", "item", "then", "now", box=None)
    different = total = 0
    with open_journal(config) as journal:
        for decision in replay(journal.entries(since=_day(since)), handlers):
            total += 1
            different += decision.differs
            if every or decision.differs:
                entry = decision.entry
                item = decision.signal.item
                cells = (f"{entry.ts:%Y-%m-%d %H:%M:%S}", item, entry.action, decision.now or "-")
                table.add_row(*map(Text, cells))
    print_table(table)
    click.echo(f"{different} of {count(total, 'decision')} would differ")


@click.command()
@click.option("--reindex", is_flag=True, help="Rebuild the index from the files.")
@pass_config
def verify(config: JobsConfig, *, reindex: bool) -> None:
    """Check that no line of the journal was changed. The exit code is 1 if one was."""
    with open_journal(config) as journal:
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
    files = count(len(checks), "file")
    click.echo(f"{count(lines, 'line')} in {files}, {count(tampered, 'file')} changed")
    if tampered:
        sys.exit(1)


@click.command()
@since_option
@click.option("-o", "--output", default="jobs.html", show_default=True)
@pass_config
def report(config: JobsConfig, since: dt.datetime | None, output: str) -> None:
    """Write an HTML page of all actions."""
    with open_journal(config) as journal:
        text = html_report(
            journal.entries(since=_day(since)), journal.verify(), now=dt.datetime.now(dt.UTC)
        )
    LocalMedium().write_text(output, text)
    click.echo(output)


@click.command()
@click.argument("before", type=_DAY, metavar="YYYY-MM-DD")
@pass_config
def prune(config: JobsConfig, before: dt.datetime) -> None:
    """Delete the journal's files of days before a date (UTC), except those with open actions.

    The states that were acted on stay recorded, so no action is repeated.
    """
    with open_journal(config) as journal:
        with Index(journal):
            pass  # it must have read all that is deleted
        for path in journal.prune(before.date()):
            click.echo(path)


def _cells(action: Action) -> list[Text]:
    last = action.last
    took = "" if last.success is None else f"{last.duration_ms} ms"
    return [
        Text(f"{action.ended:%Y-%m-%d %H:%M:%S}"),
        Text(action.first.action),
        Text(action.item),
        Text(action.outcome, _COLOURS.get(action.outcome, "")),
        Text(took),
        Text(last.error),
    ]


def _day(since: dt.datetime | None) -> dt.date:
    return dt.date.min if since is None else since.date()
