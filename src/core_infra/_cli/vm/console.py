"""``core-infra vm console``: enter a machine by its serial line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core_infra._cli.vm.shared import Machine, kept_or_none, manager
from core_infra.errors import WrongStateError
from core_infra.vm._attach import attach, connect
from core_infra.vm._manager.record import Status

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._kept_machines import KeptMachine
    from core_infra.vm._manager.manager import LinuxKitManager
    from core_infra.vm._manager.record import Container


@click.command("console")
@click.argument("machine", type=Machine())
def command(machine: str) -> None:
    """Connect to MACHINE's serial console. Ctrl-] disconnects; the machine keeps running.

    MACHINE may also be the process ID or name of a machine that a test run left running.
    """
    if (left := kept_or_none(machine)) is not None:
        enter_kept(left)
        return
    found = manager()
    enter_console(found, found.find(machine))


def enter_kept(machine: KeptMachine) -> None:
    """Enter a machine that a test run left running by its serial line."""
    enter_socket(machine.console, f"kill {machine.pid}")


def enter_console(found: LinuxKitManager, container: Container) -> None:
    """Enter a machine of the manager by its serial line."""
    if container.status is not Status.RUNNING:
        raise WrongStateError(
            f"machine {container.name} does not run",
            why=f"it is {container.status}",
            needed=Status.RUNNING,
            found=container.status,
        )
    socket = found.folder(container).line("console")
    enter_socket(socket, f"core-infra vm stop {container.name}")


def enter_socket(path: Path, end: str) -> None:
    """Enter a machine by the socket of its serial line; *end* is the command that ends it."""
    with connect(path) as console:
        click.echo("The machine's console. Enter shows a prompt; Ctrl-] leaves.", err=True)
        ended = attach(console)
    click.echo("\nThe machine has ended." if ended else f"\nIt runs on: {end}", err=True)
