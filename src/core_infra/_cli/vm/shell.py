"""``core-infra vm shell``: a shell in a machine."""

from __future__ import annotations

import click

from core_infra._cli.vm.console import enter_console, enter_kept
from core_infra._cli.vm.shared import Machine, exit_with, kept_or_none, manager
from core_infra.vm._access.shell import shell
from core_infra.vm._access.ssh import SshAccess


@click.command("shell")
@click.argument("machine", type=Machine())
@click.option("--wait", type=click.FloatRange(0), help="Seconds to wait for the machine to boot.")
def command(machine: str, *, wait: float | None) -> None:
    """Open a shell in MACHINE by SSH, or its console if it has no SSH."""
    if (left := kept_or_none(machine)) is not None:
        enter_kept(left)
        return
    found = manager()
    container = found.find(machine)
    if container.access != "agent":
        access = found.enter(machine, timeout=wait)
        try:
            if isinstance(access, SshAccess):
                exit_with(shell(access))
        finally:
            access.close()
    enter_console(found, container)
