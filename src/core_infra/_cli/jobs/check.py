"""``core-infra jobs check``: the configuration against the forges."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from core_infra._cli.jobs.group import pass_config, print_table
from core_infra.jobrunner._config.parts import check_parts

if TYPE_CHECKING:
    from core_infra.jobrunner._config.settings import JobsConfig


@click.command()
@pass_config
def check(config: JobsConfig) -> None:
    """Check the configuration against the forges, and change nothing.

    For each repository: whether the token can read and write it, whether an epic has the label, how
    it allows to merge, and what keeps each child's pull request from being merged. The exit code is
    1 if something must be mended.
    """
    table = Table("source", "", "found", box=None)
    wrong = False
    for found in check_parts(config):
        wrong |= found.is_wrong
        mark = Text("wrong", "red") if found.is_wrong else Text("ok", "green")
        table.add_row(Text(found.source), mark, Text(found.text))
    print_table(table)
    if wrong:
        sys.exit(1)
