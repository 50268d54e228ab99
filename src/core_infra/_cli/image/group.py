"""The group ``core-infra image``."""

from __future__ import annotations

import click

from core_infra._cli.lazy_group import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "build": Command("build", "Build the image of a LinuxKit file, or one with a name."),
    "export": Command("named:export", "Copy an image that has a name to a directory."),
    "ls": Command("named:list_", "List the images that have a name."),
    "rm": Command("named:remove", "Remove images that have a name."),
    "lock": Command("lock", "Record the digests of the images that a LinuxKit file names."),
}


@click.command("image", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.image")
def command() -> None:
    """Build images, and hold the digests of what they are made of."""
