"""``core-infra checksum``: what ``sha256sum -c`` reads."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import checksum_all, write_checksum_file
from core_infra.medium._local import LocalMedium


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(), help="Write a sorted checksum file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[str, ...], *, output: str | None, as_json: bool) -> None:
    """Hash FILES by SHA-256, in parallel.

    In the file that --output names, as in a release's CHECKSUMS.txt, each has its base name only.
    """
    medium = LocalMedium()
    artifacts = checksum_all(medium, [Artifact(path) for path in files])
    if output:
        write_checksum_file(medium, artifacts, output)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in artifacts], indent=2))
        return
    for one in artifacts:
        click.echo(f"{one.checksum}  {one.path}")
