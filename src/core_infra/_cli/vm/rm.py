"""``core-infra vm rm``: forget machines."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import Machine, each, manager
from core_infra.vm._manager.record import Status


@click.command("rm")
@click.argument("machines", nargs=-1, type=Machine())
@click.option("-f", "--force", is_flag=True, help="End running machines first, at once.")
@click.option("--stopped", is_flag=True, help="Remove all stopped machines.")
def command(machines: tuple[str, ...], *, force: bool, stopped: bool) -> None:
    """Remove MACHINES with their files: disks, logs, keys."""
    if bool(machines) == stopped:
        raise click.UsageError("Give either MACHINES or --stopped.")
    found = manager()
    if stopped:
        machines = tuple(one.id for one in found.list() if one.status is not Status.RUNNING)
    each(machines, lambda one: found.remove(one, force=force).name)
