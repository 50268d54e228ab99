"""``core-infra vm start``: start machines that were stopped."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import Machine, each, manager


@click.command("start")
@click.argument("machines", nargs=-1, required=True, type=Machine())
def command(machines: tuple[str, ...]) -> None:
    """Start stopped MACHINES in the background, with their disks."""
    found = manager()
    each(machines, lambda one: found.start(one).name)
