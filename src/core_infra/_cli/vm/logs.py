"""``core-infra vm logs``: what a machine's console has printed."""

from __future__ import annotations

import contextlib
import sys

import click

from core_infra._cli.vm.shared import Machine, manager


@click.command("logs")
@click.argument("machine", type=Machine())
@click.option("-f", "--follow", is_flag=True, help="Continue until the machine has ended.")
def command(machine: str, *, follow: bool) -> None:
    """Print the output of MACHINE's console, unchanged."""
    with contextlib.suppress(KeyboardInterrupt):
        for piece in manager().logs(machine, follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
