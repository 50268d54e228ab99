"""``core-infra vm images``: what machines can be run of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from core_infra.cli.vm.shared import json_option, print_table
from core_infra.errors import CoreInfraError
from core_infra.vm.cache import cache_root
from core_infra.vm.images.format import DiskImage, ImageFormat, open_image
from core_infra.vm.manager.stored import stored_images

_SUFFIXES = (".iso", ".qcow2", ".vmdk", ".raw", ".img", "-kernel")


@click.command("images")
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@json_option
def command(paths: tuple[str, ...], *, as_json: bool) -> None:
    """List the images that are built already, and those at PATHS, which may be directories."""
    rows = [
        {
            "image": "default" if number == 0 else str(one.path),
            "format": "kernel+initrd",
            "arch": one.path.name.split("-")[1],
            "what": one.name,
        }
        for number, one in enumerate(stored_images(cache_root()))
    ]
    for path in paths:
        rows += [_described(found) for found in _candidates(Path(path))]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("IMAGE", "FORMAT", "ARCH", "WHAT"),
        [tuple(str(value) for value in row.values()) for row in rows],
    )


def _candidates(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [one for one in sorted(path.iterdir()) if one.name.endswith(_SUFFIXES)]


def _described(path: Path) -> dict[str, Any]:
    try:
        image = open_image(path)
    except CoreInfraError as error:
        return {"image": str(path), "format": "?", "arch": "", "what": error.why or error.what}
    shown = str(path).removesuffix("-kernel")
    format_ = image.format if isinstance(image, DiskImage) else ImageFormat.KERNEL
    return {"image": shown, "format": format_, "arch": image.arch, "what": image.name}
