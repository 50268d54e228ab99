"""``core-infra vm templates``: the LinuxKit files that there are."""

from __future__ import annotations

import json

import click

from core_infra._cli.vm.shared import json_option, pairs, print_table
from core_infra.errors import CoreInfraError
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._images.linuxkit.variables import extract_variables


@click.command("templates")
@click.argument("name", required=False)
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable of NAME."
)
@json_option
def command(name: str | None, *, variables: tuple[str, ...], as_json: bool) -> None:
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
            found = extract_variables("")  # its description tells why
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
