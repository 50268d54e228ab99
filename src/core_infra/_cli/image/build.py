"""``core-infra image build``: the image of a LinuxKit file."""

from __future__ import annotations

from pathlib import Path

import click

from core_infra._cli.vm.shared import print_line
from core_infra.vm._images.image import checked_arch, host_arch
from core_infra.vm._images.linuxkit.output import FORMATS, build_files


@click.command("build")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--name", default="", help="What the files' names begin with; default: FILES' name.")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False), default=".", help="Where they go."
)
@click.option("--arch", default="", help="x86_64 or aarch64; default: this host's.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help=f"Can be given several times; default: {FORMATS[0]}.",
)
def command(
    files: tuple[str, ...], *, name: str, directory: str, arch: str, formats: tuple[str, ...]
) -> None:
    """Build the image of FILES: LinuxKit files, which are merged from the first to the last.

    It becomes NAME-kernel, NAME-initrd.img and NAME-cmdline, or NAME.tar. It needs no other
    program. If there is a file NAME.lock beside the first of FILES, all images are those that it
    names.
    """
    made = build_files(
        [Path(file) for file in files],
        Path(directory),
        name=name or Path(files[0]).stem,
        arch=checked_arch(arch) if arch else host_arch(),
        formats=formats or FORMATS[:1],
        progress=print_line,
    )
    for path in made:
        click.echo(path)
