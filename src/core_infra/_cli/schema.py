"""``core-infra schema``: the JSON Schemas of the files that core-infra reads, for editors."""

from __future__ import annotations

import importlib.resources

import click

NAMES = ("build", "image", "jobs", "tasks")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
def command(name: str) -> None:
    """Print the JSON Schema of a file: build.yaml, image.yaml, jobs.yaml or tasks.yml.

    Editors complete and check a file by it. For YAML's language server, write the schema beside the
    file, and begin the file with: # yaml-language-server: $schema=tasks.schema.json
    """
    path = importlib.resources.files("core_infra") / "schemas" / f"{name}.json"
    click.echo(path.read_text(), nl=False)
