"""The group ``core-infra vm``."""

from __future__ import annotations

import click

from core_infra._cli.lazy_group import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "cache": Command("cache", "List and remove cached snapshots, images and disks."),
    "console": Command("console", "Connect to a machine's serial console."),
    "cp": Command("cp", "Copy files between this host and a machine."),
    "exec": Command("exec", "Run a command in a machine."),
    "images": Command("images", "List images, or build and boot them in advance."),
    "logs": Command("logs", "Print the output of a machine's console."),
    "ps": Command("ps", "List machines."),
    "restart": Command("restart", "Stop machines and start them again."),
    "rm": Command("rm", "Remove machines and their files."),
    "run": Command("run", "Run a machine."),
    "shell": Command("shell", "Open a shell in a machine."),
    "start": Command("start", "Start stopped machines."),
    "stop": Command("stop", "Stop machines."),
    "templates": Command("templates", "List templates: LinuxKit files with variables."),
}
"""Each module of this package has its command as ``command``."""


@click.command("vm", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.vm")
def command() -> None:
    """Run machines that outlive the command."""
