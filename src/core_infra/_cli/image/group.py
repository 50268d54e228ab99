"""The group ``core-infra image``."""

from __future__ import annotations

import click

from core_infra._cli.lazy_group import Command, LazyGroup

COMMANDS: dict[str, Command] = {
    "build": Command("build", "Build the image of a LinuxKit file."),
    "lock": Command("lock", "Record the digests of the images that a LinuxKit file names."),
}


@click.command("image", cls=LazyGroup, members=COMMANDS, package="core_infra._cli.image")
def command() -> None:
    """Build images, and hold the digests of what they are made of."""
