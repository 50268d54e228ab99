"""``core-infra vm cp``: copy files between this host and a machine."""

from __future__ import annotations

import click

from core_infra.cli.vm.shared import manager
from core_infra.vm.access.copying import pull, push


@click.command("cp")
@click.argument("source")
@click.argument("target")
def command(source: str, target: str) -> None:
    """Copy a file or directory: one of SOURCE and TARGET is MACHINE:PATH.

    A file becomes TARGET, or goes into it if that is a directory or ends in a slash; the content
    of a directory goes into the directory TARGET, which is made.
    """
    from_machine, _, from_path = source.partition(":")
    to_machine, _, to_path = target.partition(":")
    if bool(from_path) == bool(to_path):
        raise click.UsageError("One of SOURCE and TARGET must be MACHINE:PATH.")
    access = manager().enter(from_machine if from_path else to_machine)
    try:
        if from_path:
            pull(access, from_path, target)
        else:
            push(access, source, to_path)
    finally:
        access.close()
