"""The group ``core-infra vm``."""

from __future__ import annotations

import click

from core_infra._cli.lazy_group import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "cache": Command("cache", "List and remove cached snapshots, images and disks."),
    "console": Command("console:console", "Connect to a machine's serial console."),
    "cp": Command("exec:cp", "Copy files between this host and a machine."),
    "exec": Command("exec:exec_", "Run a command in a machine."),
    "images": Command("images:images", "List images, or build and boot them in advance."),
    "logs": Command("console:logs", "Print the output of a machine's console."),
    "open": Command("capsule:open_", "Enter a machine as it stood when its test failed."),
    "power-cut": Command("power:power_cut", "Cut the power of machines."),
    "power-off": Command("power:power_off", "Shut the guests of machines down."),
    "power-on": Command("lifecycle:start", "Start stopped machines."),
    "ps": Command("lifecycle:ps", "List machines."),
    "reboot": Command("power:reboot", "Shut guests down and boot machines again."),
    "reset": Command("power:reset", "Cut the power of machines and boot them again."),
    "restart": Command("lifecycle:restart", "Stop machines and start them again."),
    "rm": Command("lifecycle:rm", "Remove machines and their files."),
    "run": Command("run", "Run a machine."),
    "shell": Command("console:shell", "Open a shell in a machine."),
    "show": Command("capsule:show", "Write the capsule of a failed test as an HTML page."),
    "start": Command("lifecycle:start", "Start stopped machines."),
    "stop": Command("lifecycle:stop", "Stop machines."),
    "templates": Command("images:templates", "List templates: LinuxKit files with variables."),
}


@click.command("vm", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.vm")
def command() -> None:
    """Run machines that outlive the command."""
