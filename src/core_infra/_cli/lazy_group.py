"""Groups whose commands are imported when they are called.

So ``--help`` and the completion of a shell stay fast however many rooms the library has.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class Command(NamedTuple):
    """Where a command is, and what ``--help`` says of it before it is imported."""

    module: str
    help: str


class LazyGroup(click.Group):
    """A group of commands, each the attribute ``command`` of a module of its own.

    Args:
        members: the commands by their names.
        package: where their modules are.
    """

    def __init__(
        self, *args: Any, members: Mapping[str, Command], package: str, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._members = members
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        del ctx
        return sorted(self._members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in self._members:
            return None
        module = importlib.import_module(f"{self._package}.{self._members[cmd_name].module}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        members = self._members
        with formatter.section("Commands"):
            formatter.write_dl([(name, members[name].help) for name in sorted(members)])
