"""``core-infra image lock``: record the digests of images."""

from __future__ import annotations

from pathlib import Path

import click

from core_infra._cli.vm.shared import print_line
from core_infra._wording import count
from core_infra.vm._images.linuxkit.lock import write_lock


@click.command("lock")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def command(files: tuple[str, ...]) -> None:
    """Record the digests of the images that FILES name, for all platforms, in NAME.lock.

    FILES are LinuxKit files. Each build of such a file then takes exactly these images. The
    registries are asked again, so run it to get the newest images of tags. No layer is fetched.
    """
    for file in files:
        lock = write_lock(Path(file), progress=print_line)
        click.echo(f"{lock.path}: {count(len(lock.digests), 'image')}")
