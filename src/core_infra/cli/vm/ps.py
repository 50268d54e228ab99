"""``core-infra vm ps``: list machines."""

from __future__ import annotations

import click

from core_infra.cli.vm.shared import json_option, manager, show
from core_infra.vm.manager.container import Status


@click.command("ps")
@click.option("-a", "--all", "with_all", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@json_option
def command(*, with_all: bool, quiet: bool, as_json: bool) -> None:
    """List the machines that run."""
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other.")
    found = [one for one in manager().list() if with_all or one.status is Status.RUNNING]
    if quiet:
        click.echo("".join(f"{one.id}\n" for one in found), nl=False)
    else:
        show(found, as_json=as_json)
