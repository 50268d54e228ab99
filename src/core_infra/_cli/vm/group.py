"""The group ``core-infra vm``."""

from __future__ import annotations

import click

from core_infra._cli.lazy_group import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "cache": Command("cache", "List and remove what is kept to start machines fast."),
    "console": Command("console", "Enter a machine by its serial console."),
    "cp": Command("cp", "Copy files between this host and a machine."),
    "exec": Command("exec", "Run a command in a machine."),
    "images": Command("images", "List what machines can be run of."),
    "logs": Command("logs", "Print what a machine's console has printed."),
    "ps": Command("ps", "List machines."),
    "restart": Command("restart", "End machines and start them again."),
    "rm": Command("rm", "Forget machines, and remove their files."),
    "run": Command("run", "Run a machine."),
    "shell": Command("shell", "Enter a machine."),
    "start": Command("start", "Start machines that were stopped."),
    "stop": Command("stop", "End machines."),
    "templates": Command("templates", "List the LinuxKit files that images can be built of."),
}
"""Each module of this package has its command as ``command``."""


@click.command("vm", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.vm")
def command() -> None:
    """Run machines that outlive the command, and enter them."""
