"""``core-infra discover``: what kind of project a directory is."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from core_infra.build._project import explain
from core_infra.errors import NotFoundError
from core_infra.medium._local import LocalMedium


@click.command()
@click.argument("directory", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--explain", "explained", is_flag=True, help="Show which file decides for each type.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(directory: str, *, explained: bool, as_json: bool) -> None:
    """Print the project types of DIRECTORY, the most specific first."""
    findings = explain(LocalMedium(), directory)
    shown = findings if explained else [finding for finding in findings if finding.found]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in shown], indent=2))
    elif explained:
        for finding in findings:
            click.echo(f"{'✓' if finding.found else ' '} {finding.type:<9} {finding.why}")
    else:
        for finding in shown:
            click.echo(finding.type)
    if not any(finding.found for finding in findings):
        raise NotFoundError(
            f"{directory!r} is no project",
            why="no file in it tells what kind it is",
            todo="core-infra discover --explain shows what was looked for.",
        )
