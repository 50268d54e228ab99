"""``core-infra vm cp``: copy files between this host and a machine."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import entered
from core_infra.vm._access.file_copy import pull, push


@click.command("cp")
@click.argument("source")
@click.argument("target")
def command(source: str, target: str) -> None:
    """Copy a file or directory; either SOURCE or TARGET is MACHINE:PATH.

    SOURCE becomes TARGET, or is copied into TARGET under its own name if TARGET is a directory. A
    file is also copied into a TARGET that ends in a slash. If the path of a directory ends in /.,
    its content is copied. A host path that contains a colon must begin with / or ./.
    """
    (from_machine, from_path), (to_machine, to_path) = _parts(source), _parts(target)
    if bool(from_machine) == bool(to_machine):
        raise click.UsageError(
            "One of SOURCE and TARGET must be MACHINE:PATH; a path of this host with a colon "
            "begins with / or ./"
        )
    for machine, path, given in ((from_machine, from_path, source), (to_machine, to_path, target)):
        if machine and not path:
            raise click.UsageError(f"{given!r} has no path after the colon.")
    with entered(from_machine or to_machine) as access:
        if from_machine:
            pull(access, from_path, target)
        else:
            push(access, source, to_path)


def _parts(text: str) -> tuple[str, str]:
    """The machine, empty for this host, and the path, as docker tells them apart."""
    machine, colon, path = text.partition(":")
    if not colon or not machine or "/" in machine or machine.startswith("."):
        return "", text
    return machine, path
