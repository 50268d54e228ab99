"""``core-infra vm images``: what machines can be run of."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from core_infra._cli.vm.shared import json_option, print_table, tell
from core_infra.errors import CoreInfraError
from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images.cached import stored_images
from core_infra.vm._images.formats import DiskImage, ImageFormat, open_image

_SUFFIXES = (
    *(".iso", ".qcow2", ".raw", ".img", ".vmdk", ".vdi", ".vhd", ".vhdx", ".qcow", ".qed"),
    *(".xz", ".gz", ".zst", ".bz2", "-kernel"),
)


@click.command("images")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--build", is_flag=True, help="Build and boot PATHS, or the default image, first.")
@click.option(
    "-m", "--memory", type=click.IntRange(1), help="With --build: the machines' memory in MiB."
)
@click.option(
    "--cpus", type=click.IntRange(1), help="With --build: the machines' virtual processors."
)
@json_option
def command(
    paths: tuple[str, ...], *, build: bool, memory: int | None, cpus: int | None, as_json: bool
) -> None:
    """List the images that are built, and those at PATHS, which may be directories.

    With --build, images are built and booted once, so that later tests start with clones: run it
    before you save a CI cache. The default size of the machines is that of pytest --core-vm.
    """
    if build:
        _build([*paths] or ["default"], memory, cpus or 1)
    elif memory or cpus:
        raise click.UsageError("--memory and --cpus are for --build.")
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
        if path == "default":
            continue  # listed above
        if not Path(path).exists() and not build:
            raise click.BadParameter(f"there is no file or directory {path!r}.")
        rows += [_described(found) for found in _candidates(Path(path))]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("IMAGE", "FORMAT", "ARCH", "WHAT"),
        [tuple(str(value) for value in row.values()) for row in rows],
    )


def _build(images: list[str], memory: int | None, cpus: int) -> None:
    with Launcher(memory=memory, cpus=cpus, ready=0, progress=tell) as launcher:
        for image in images:
            began = time.monotonic()
            machine = launcher.clone(None if image == "default" else image)
            launcher.discard(machine)
            tell(f"{image}: ready in {time.monotonic() - began:.1f} s")


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
