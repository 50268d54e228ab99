"""``core-infra vm ps``: list machines."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import json_option, manager, show
from core_infra.vm._kept_machines import kept
from core_infra.vm._manager.record import Status


@click.command("ps")
@click.option("-a", "--all", "with_all", is_flag=True, help="Also list stopped machines.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@json_option
def command(*, with_all: bool, quiet: bool, as_json: bool) -> None:
    """List running machines, including those that test runs left running (--core-vm-keep)."""
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other.")
    found = [one for one in manager().list() if with_all or one.status is Status.RUNNING]
    left = kept()
    if quiet:
        ids = [*(one.id for one in found), *(str(one.pid) for one in left)]
        click.echo("".join(f"{id_}\n" for id_ in ids), nl=False)
    else:
        show(found, left, as_json=as_json)
