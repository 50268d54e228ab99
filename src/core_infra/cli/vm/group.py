"""The group ``core-infra vm``."""

from __future__ import annotations

import click

from core_infra.cli.lazy import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "cache": Command("cache", "List and remove what is kept to start machines fast."),
    "console": Command("console", "Enter a machine by its serial console."),
}
"""Each module of this package has its command as ``command``."""


@click.command("vm", cls=LazyGroup, members=COMMANDS, package="core_infra.cli.vm")
def command() -> None:
    """Run machines that outlive the command, and enter them."""
