"""``core-infra vm console``, ``shell`` and ``logs``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from core_infra._cli.vm.shared import (
    Machine,
    entered,
    exit_with,
    kept_or_none,
    manager,
    print_line,
)
from core_infra._cli.vm.values import Seconds
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._access.shell import shell as run_shell
from core_infra.vm._access.ssh import SshAccess
from core_infra.vm._attach import attach, connect

if TYPE_CHECKING:
    from pathlib import Path


@click.command("console")
@click.argument("machine", type=Machine())
def console(machine: str) -> None:
    """Connect to MACHINE's serial console. Ctrl-] disconnects; the machine keeps running.

    MACHINE may also be the process ID or name of a machine that a test run left running.
    """
    if (left := kept_or_none(machine)) is not None:
        _enter_console(left.console, f"kill {left.pid}")
        return
    found = manager()
    name = found.find(machine).name
    _enter_console(found.console_socket(machine), f"core-infra vm stop {name}")


@click.command("shell")
@click.argument("machine", type=Machine())
@click.option("--wait", type=Seconds(), help="Seconds to wait for the machine to boot.")
@click.pass_context
def shell(ctx: click.Context, machine: str, *, wait: float | None) -> None:
    """Open a shell in MACHINE: by core-infra's agent, or by SSH.

    If it has neither, or its agent does not answer, or there is no terminal, enter its console.
    """
    by_agent = kept_or_none(machine) is not None or manager().find(machine).access == "agent"
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal or not by_agent:
        try:
            with entered(machine, timeout=wait, as_image=True) as access:
                if isinstance(access, AgentAccess):
                    print_line(f"A shell in {machine}; exit or Ctrl-] returns.")
                    exit_with(access.shell())
                if isinstance(access, SshAccess):
                    exit_with(run_shell(access))
        except NoAccessError as error:
            if not by_agent:
                raise
            print_line(f"core-infra: {error.what}: {error.why}")
    ctx.invoke(console, machine=machine)


@click.command("logs")
@click.argument("machine", type=Machine())
@click.option("-f", "--follow", is_flag=True, help="Continue until the machine has ended.")
def logs(machine: str, *, follow: bool) -> None:
    """Print the output of MACHINE's console, unchanged."""
    with contextlib.suppress(KeyboardInterrupt):
        for piece in manager().logs(machine, follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


def _enter_console(path: Path, end: str) -> None:
    """Enter a machine by its console's socket; *end* is the command that ends the machine."""
    with connect(path) as connection:
        click.echo("The machine's console. Enter shows a prompt; Ctrl-] leaves.", err=True)
        ended = attach(connection)
    click.echo("\nThe machine has ended." if ended else f"\nIt runs on: {end}", err=True)
