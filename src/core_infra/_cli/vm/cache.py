"""``core-infra vm cache``: snapshots, images and disks that let machines start fast."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from core_infra._cli.vm.values import Seconds
from core_infra.errors import UnavailableError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.cached import prune_images, stored_images
from core_infra.vm._images.conversion import all_converted
from core_infra.vm._images.conversion import prune as prune_converted
from core_infra.vm._snapshots.store import SnapshotStore
from core_infra.vm._warm.client import cool, templates

if TYPE_CHECKING:
    from core_infra.vm._images.cached import StoredImage
    from core_infra.vm._images.conversion import Converted
    from core_infra.vm._snapshots.snapshot import Snapshot

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DAY = 24 * 3600


class Size(click.ParamType[int]):
    """A number of bytes, such as 500M or 2G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes; units are powers of 1024."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size such as 500M or 2G", param, ctx)
        return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


@click.group("cache")
def command() -> None:
    """List and remove cached snapshots, images and disks.

    They make machines start fast. Everything that is missing is made again when it is needed.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List snapshots, images and converted disks, with their size on disk, and warm templates.

    A template is a stopped machine in memory, kept by pytest --core-vm-warm.
    """
    rows = [_snapshot(one) for one in _store().all()]
    rows += [_image(one) for one in stored_images(cache_root())]
    rows += [_disk(one) for one in all_converted()]
    rows += [_template(one) for one in templates()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("KIND", "KEY", "WHAT", "CREATED"):
        table.add_column(heading, overflow="fold")
    table.add_column("SIZE", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["kind"], row["key"], row["what"], row["created"], decimal(row["bytes"]))
    console = Console(highlight=False)
    console.print(table)
    total = sum(row["bytes"] for row in rows)
    console.print(f"{len(rows)} in {cache_root()}, {decimal(total)}", soft_wrap=True)


@command.command()
@click.option(
    "--limit",
    type=Size(),
    default="0",
    help="Total size of the snapshots to keep, as 2G; default: 0.",
)
@click.option(
    "--older",
    type=Seconds(),
    default=0.0,
    help="Only images and disks not used for this many days.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(*, limit: int, older: float, as_json: bool) -> None:
    """Remove snapshots (least recently used first), unused images, and converted disks.

    The current default image is kept. Running machines are not affected.
    """
    rows = _prune_snapshots(limit)
    rows += [_image(one) for one in prune_images(cache_root(), before=time.time() - older * _DAY)]
    rows += [_disk(one) for one in prune_converted(0, unused=older * _DAY)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"removed {row['kind']} {row['key']} ({row['what']})")
    click.echo(f"{len(rows)} removed, {decimal(sum(row['bytes'] for row in rows))}")


@command.command("cool")
def cool_() -> None:
    """End the warm templates that pytest --core-vm-warm keeps in memory."""
    click.echo(f"{cool()} ended")


def _prune_snapshots(limit: int) -> list[dict[str, Any]]:
    store = _store()
    rows = {one.key: _snapshot(one) for one in store.all()}  # read before their files go
    try:
        return [rows[one.key] for one in store.prune(limit) if one.key in rows]
    except OSError as error:
        raise UnavailableError(f"cannot remove from {cache_root()}", why=str(error)) from error


def _store() -> SnapshotStore:
    return SnapshotStore(cache_root() / "snapshots")


def _snapshot(one: Snapshot) -> dict[str, Any]:
    facts = one.facts
    what = f"{facts.get('memory')} MiB, {facts.get('cpus')} cpu, {facts.get('accelerator')}"
    return _row("snapshot", one.key, what, one.created, one.size)


def _image(one: StoredImage) -> dict[str, Any]:
    return _row("image", one.path.name, one.name, one.used, one.size)


def _disk(one: Converted) -> dict[str, Any]:
    return _row("disk", one.path.stem, one.what, one.used, one.size)


def _template(one: dict[str, Any]) -> dict[str, Any]:
    return _row("template", one["key"], f"{one['what']}, in memory", one["created"], one["bytes"])


def _row(kind: str, key: str, what: str, moment: float, size: int) -> dict[str, Any]:
    created = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    return {"kind": kind, "key": key, "what": what, "created": created, "bytes": size}
