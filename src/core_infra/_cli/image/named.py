"""``core-infra image``: images with names, which stay until they are removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import click

from core_infra._cli.vm.shared import json_option, print_line, print_table
from core_infra.vm import Bootable, Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images.image import checked_arch, host_arch
from core_infra.vm._images.named import NamedImages
from core_infra.vm._images.tree_image import is_tree, tree_image


class Kept(NamedTuple):
    """How an image is kept.

    Attributes:
        name: its name.
        memory: MiB of its machines; None: the image's.
        cpus: virtual processors of its machines; None: the image's.
        replace: whether it may replace another image of its name.
    """

    name: str
    memory: int | None
    cpus: int | None
    replace: bool


def build_named(
    source: str, packages: tuple[str, ...], suite: str | None, arch: str | None, kept: Kept
) -> Path:
    """Build the image of a source, keep it by name, and return its directory."""
    images = NamedImages()
    images.check_free(kept.name, replace=kept.replace)
    wanted: Bootable | str = source
    if is_tree(Path(source)):
        wanted = tree_image(
            Path(source).resolve(),
            checked_arch(arch or host_arch()),
            cache_dir=cache_root(),
            progress=print_line,
        )
    with Launcher(ready=0, progress=print_line) as launcher:
        found = launcher.make_image(wanted, packages=packages, suite=suite, arch=arch, refresh=True)
    return images.add(kept.name, found, memory=kept.memory, cpus=kept.cpus, replace=kept.replace)


@click.command("ls")
@json_option
def list_(*, as_json: bool) -> None:
    """List the images that have a name."""
    images = NamedImages().all()
    if as_json:
        rows = [
            {
                "image": one.name,
                "arch": one.image.arch,
                "memory": one.image.memory,
                "bytes": one.size,
                "path": str(one.path),
            }
            for one in images
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("IMAGE", "ARCH", "MEMORY", "SIZE", "PATH"),
        [
            (
                one.name,
                one.image.arch,
                f"{one.image.memory} MiB",
                f"{one.size >> 20} MiB",
                str(one.path),
            )
            for one in images
        ],
    )


@click.command("rm")
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove images that have a name. Machines that run are not affected."""
    for name in names:
        NamedImages().remove(name)
        click.echo(name)


@click.command("export")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
def export(name: str, directory: Path) -> None:
    """Copy an image to a new DIRECTORY, whose path is an image on other hosts, too."""
    NamedImages().export(name, directory)
    click.echo(directory)
