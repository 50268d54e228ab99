"""``core-infra init``: a first test, a noxfile and a workflow for a project."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.syntax import Syntax

from core_infra.medium import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORKFLOWS = {
    "github": (".github", ".github/workflows/machines.yml", "github.yml"),
    "forgejo": (".forgejo", ".forgejo/workflows/machines.yml", "github.yml"),
    "gitlab": (".gitlab-ci.yml", ".gitlab-ci.yml", "gitlab.yml"),
}


class StarterFile(NamedTuple):
    """A file for a project.

    Attributes:
        path: where it goes, below the project's directory.
        content: its text.
    """

    path: str
    content: str


@click.command()
@click.argument("directory", default=".", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--ci",
    type=click.Choice([*_WORKFLOWS, "none"]),
    help="Whose workflow to write. Default: what the project has already, else github.",
)
@click.option("-y", "--yes", is_flag=True, help="Write the files without asking.")
def command(directory: str, *, ci: str | None, yes: bool) -> None:
    """Write a first test, a noxfile and a CI workflow into the project in DIRECTORY.

    Each file is shown, and is written if you agree. A file that exists is never changed.
    """
    written, project = 0, Path(directory)
    for file in _files(project, ci):
        if (project / file.path).exists() or (project / file.path).is_symlink():
            click.echo(f"{file.path}: exists, and stays as it is")
        elif yes or _agrees(file):
            LocalMedium().write_text(project / file.path, file.content)
            click.echo(f"{file.path}: written")
            written += 1
    if written:
        click.echo("\nNext:  pytest --core-vm   (core-infra doctor shows what this host lacks)")


def _files(project: Path, ci: str | None) -> Iterator[StarterFile]:
    yield StarterFile("tests/test_machine.py", _starter("test_machine.py"))
    yield StarterFile("noxfile.py", _starter("noxfile.py"))
    found = next((name for name, (mark, *_) in _WORKFLOWS.items() if (project / mark).exists()), "")
    chosen = ci or found or "github"
    if chosen != "none":
        _, path, name = _WORKFLOWS[chosen]
        yield StarterFile(path, _starter(name))


def _starter(name: str) -> str:
    return (importlib.resources.files("core_infra._cli") / "starter" / f"{name}.in").read_text()


def _agrees(file: StarterFile) -> bool:
    console = Console()
    console.rule(file.path, align="left")
    language = "python" if file.path.endswith(".py") else "yaml"
    console.print(Syntax(file.content.rstrip("\n"), language, background_color="default"))
    return click.confirm(f"Write {file.path}?")
