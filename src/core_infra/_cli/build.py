"""``core-infra build``: a project's directory made into artifacts."""

from __future__ import annotations

from typing import Any

import click

from core_infra._cli.building import run, with_build_options
from core_infra.build._plan import Goal


@click.command()
@with_build_options
@click.option("--archive", is_flag=True, help="Archive too, with checksums and a manifest.")
def command(*, archive: bool, **chosen: Any) -> None:
    """Build PROJECT: dist/linux_amd64/app and so on.

    Either all of it is there afterwards, or nothing has changed.
    """
    run(Goal.PACKAGE if archive else Goal.BUILD, chosen, dry=chosen["only_plan"])
