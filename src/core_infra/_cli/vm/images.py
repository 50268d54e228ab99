"""``core-infra vm images`` and ``templates``: what machines can boot."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from core_infra._cli.vm.shared import json_option, pairs, print_line, print_table
from core_infra.errors import CoreInfraError
from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images.addresses import is_made
from core_infra.vm._images.cached import KERNEL_AND_INITRD, stored_images
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._images.linuxkit.variables import extract_variables
from core_infra.vm._images.load import load_image

if TYPE_CHECKING:
    from core_infra.vm import Bootable
    from core_infra.vm._images.cached import StoredImage

_SUFFIXES = (
    *(".iso", ".qcow2", ".raw", ".img", ".vmdk", ".vdi", ".vhd", ".vhdx", ".qcow", ".qed"),
    *(".xz", ".gz", ".zst", ".bz2", "-kernel"),
)


@click.command("images")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--build", is_flag=True, help="First build and boot PATHS, or the default image.")
@click.option(
    "-m", "--memory", type=click.IntRange(1), help="With --build: the machines' memory in MiB."
)
@click.option(
    "--cpus", type=click.IntRange(1), help="With --build: the machines' virtual processors."
)
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="With --build: a Debian package that the image `default` or `debian` has.",
)
@click.option("--suite", help="With --build: the release that has the packages.")
@json_option
def images(
    paths: tuple[str, ...],
    *,
    build: bool,
    memory: int | None,
    cpus: int | None,
    packages: tuple[str, ...],
    suite: str | None,
    as_json: bool,
) -> None:
    """List the images that are built, and those at PATHS, which may be directories.

    With --build, images are built and booted once, so that later tests start with clones: run it
    before you save a CI cache. The default size of the machines is that of pytest --core-vm.
    """
    if build:
        _build([*paths] or ["default"], memory, cpus or 1, packages, suite)
    elif memory or cpus or packages or suite:
        raise click.UsageError("--memory, --cpus, --package and --suite are for --build.")
    rows = [
        _row(
            one.name if one.has_disk else str(one.path),
            one.kind,
            one.path.name.split("-")[1],
            one.path.name if one.has_disk else one.name,
            one,
        )
        for one in stored_images(cache_root())
    ]
    for row in rows:
        if row["format"] == KERNEL_AND_INITRD:  # the last used one comes first
            row["image"] = "default"
            break
    for path in paths:
        if path == "default" or is_made(path):
            continue  # listed above
        if not Path(path).exists() and not build:
            raise click.BadParameter(f"there is no file or directory {path!r}.")
        rows += [_described(found) for found in _candidates(Path(path))]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    shown = ({**row, "size": "" if row["size"] is None else decimal(row["size"])} for row in rows)
    print_table(
        ("IMAGE", "FORMAT", "ARCH", "WHAT", "WHEN", "SIZE"),
        [tuple(row.values()) for row in shown],
    )


@click.command("templates")
@click.argument("name", required=False)
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable of NAME."
)
@json_option
def templates(name: str | None, *, variables: tuple[str, ...], as_json: bool) -> None:
    """List templates; with NAME, print that template, with variables replaced."""
    manager = TemplateManager()
    if name is not None:
        values = dict(pairs(variables, "=", "NAME=VALUE"))
        text = manager.apply_template(name, values) if values else manager.get_template(name)
        click.echo(text, nl=False)
        return
    rows = []
    for one in manager.list_templates():
        try:
            found = extract_variables(manager.get_template(one.name))
        except CoreInfraError:
            found = extract_variables("")  # its description says why
        rows.append({**one._asdict(), **found._asdict()})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    shown = [
        (
            row["name"],
            row["description"],
            " ".join(row["required"]),
            " ".join(f"{key}={value}" for key, value in row["optional"].items()),
        )
        for row in rows
    ]
    print_table(("NAME", "DESCRIPTION", "NEEDS", "MAY HAVE"), shown)


def _build(
    images: list[str], memory: int | None, cpus: int, packages: tuple[str, ...], suite: str | None
) -> None:
    wanted: Bootable | str | None
    with Launcher(memory=memory, cpus=cpus, ready=0, progress=print_line) as launcher:
        for image in images:
            began = time.monotonic()
            wanted = None if image == "default" else image
            if is_made(image) or packages or suite:
                wanted = launcher.make_image(wanted, packages=packages, suite=suite, refresh=True)
            machine = launcher.clone(wanted)
            launcher.discard(machine)
            print_line(f"{image}: ready in {time.monotonic() - began:.1f} s")


def _candidates(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [one for one in sorted(path.iterdir()) if one.name.endswith(_SUFFIXES)]


def _described(path: Path) -> dict[str, Any]:
    try:
        image = load_image(path)
    except CoreInfraError as error:
        return _row(str(path), "?", "", error.why or error.what)
    shown = str(path).removesuffix("-kernel")
    format_ = image.format if isinstance(image, DiskImage) else ImageFormat.KERNEL
    return _row(shown, format_, image.arch, image.name)


def _row(
    image: str, format_: str, arch: str, what: str, built: StoredImage | None = None
) -> dict[str, Any]:
    """Return a row; only an image that core-infra has built has a time and a size."""
    row = {"image": image, "format": format_, "arch": arch, "what": what}
    if built is None:
        return {**row, "when": "", "size": None}
    when = datetime.fromtimestamp(built.built, UTC).isoformat(timespec="seconds")
    return {**row, "when": when, "size": built.size}
