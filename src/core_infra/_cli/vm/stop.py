"""``core-infra vm stop``: end machines."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import Machine, each, kept_or_none, manager
from core_infra.vm._manager.stop import GRACE


@click.command("stop")
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
    """Stop MACHINES, identified by ID, unique ID prefix, or name.

    Machines that test runs left running (--core-vm-keep) are identified by process ID or name.
    """
    found = manager()

    def stop(machine: str) -> str:
        if (left := kept_or_none(machine)) is not None:
            return f"{left.name}: {left.stop(grace=grace)}"
        container = found.stop(machine, grace=grace)
        return f"{container.name}: {container.reason}"

    each(machines, stop)
