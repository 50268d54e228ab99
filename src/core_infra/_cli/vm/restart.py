"""``core-infra vm restart``: end machines and start them again."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import Machine, each, manager
from core_infra.vm._manager.stop import GRACE


@click.command("restart")
@click.argument("machines", nargs=-1, required=True, type=Machine())
@click.option(
    "-t",
    "--time",
    "grace",
    type=click.FloatRange(0),
    default=GRACE,
    show_default=True,
    help="Seconds that the guest gets to shut down.",
)
def command(machines: tuple[str, ...], *, grace: float) -> None:
    """Stop MACHINES if they run, and start them again."""
    found = manager()
    each(machines, lambda one: found.restart(one, grace=grace).name)
