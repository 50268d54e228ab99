"""``core-infra release``: a project's directory made into a release that others can verify."""

from __future__ import annotations

from typing import Any

import click

from core_infra._cli.building import run, with_build_options
from core_infra.build._plan import Goal


@click.command()
@with_build_options
@click.option(
    "--dry-run/--no-dry-run", default=True, help="A dry run (default) only plans and checks."
)
def command(*, dry_run: bool, **chosen: Any) -> None:
    """Build, sign, archive and describe PROJECT; a dry run by default.

    The release is then in dist: archives, CHECKSUMS.txt and its signature, a manifest, a bill of
    materials and a statement of provenance. core-infra verify checks it. Nothing is published.
    """
    dry = dry_run or chosen["only_plan"]
    run(Goal.RELEASE, chosen, dry=dry)
    if dry_run and not chosen["as_json"]:
        click.echo("Nothing was built: this was a dry run. Do it with --no-dry-run.")
