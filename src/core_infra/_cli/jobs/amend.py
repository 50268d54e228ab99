"""``core-infra jobs retry``, ``resolve`` and ``forget``: what a person decides about actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core_infra._cli.jobs.group import pass_config
from core_infra.errors import NotFoundError
from core_infra.jobrunner._config.parts import open_journal
from core_infra.jobrunner._journal.amendments import amend
from core_infra.jobrunner._journal.entry import Phase

if TYPE_CHECKING:
    from core_infra.jobrunner._config.settings import JobsConfig

item_argument = click.argument("item", metavar="OWNER/NAME#NUMBER")
action_option = click.option("--action", default="", help="Only the actions of this handler.")


@click.command()
@item_argument
@action_option
@pass_config
def retry(config: JobsConfig, item: str, action: str) -> None:
    """Have actions on an item tried again that failed, were given up or are unknown.

    A handler that can find out whether it was done already does so first.
    """
    _amend(config, item, action, Phase.RETRY, "will be tried again")


@click.command()
@item_argument
@action_option
@pass_config
def resolve(config: JobsConfig, item: str, action: str) -> None:
    """Record that actions on an item are done that failed, were given up or are unknown."""
    _amend(config, item, action, Phase.RESOLVED, "is recorded as done")


@click.command()
@item_argument
@action_option
@pass_config
def forget(config: JobsConfig, item: str, action: str) -> None:
    """Let actions on an item be as if they had never been: they are done again if they match."""
    _amend(config, item, action, Phase.FORGOTTEN, "is forgotten")


def _amend(config: JobsConfig, item: str, action: str, phase: Phase, what: str) -> None:
    with open_journal(config) as journal:
        found = amend(journal, item, phase, action=action)
    if not found:
        raise NotFoundError(
            f"there is nothing to do for {item}",
            why="the journal has no such action on it",
            todo="See: core-infra jobs journal --failed.",
        )
    for one in found:
        click.echo(f"{one.first.action} {item} {what} (it was {one.outcome})")
