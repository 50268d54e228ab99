"""``core-infra vm console``: enter a machine by its serial line."""

from __future__ import annotations

import click

from core_infra.vm.attach import attach, connect, kept_console


@click.command("console")
@click.argument("machine")
def command(machine: str) -> None:
    """Enter MACHINE by its serial console: Ctrl-] leaves it, and it runs on.

    MACHINE is the process id of a machine that a test run left running (--core-vm-keep).
    """
    with connect(kept_console(int(machine))) as console:
        click.echo("The machine's console. Enter shows a prompt; Ctrl-] leaves.", err=True)
        ended = attach(console)
    click.echo("\nThe machine has ended." if ended else f"\nIt runs on: kill {machine}", err=True)
