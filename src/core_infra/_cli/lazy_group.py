"""Groups whose commands are imported when they are called.

So ``--help`` and shell completion stay fast, whatever the commands import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class Command(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        target: its module in the package of the group, and its name there: ``module:name``; without
            a name, ``command``.
        help: its line in the help of the group.
    """

    target: str
    help: str


class LazyGroup(click.Group):
    """A group of commands that are imported when they are called.

    Args:
        members: the commands by their names.
        package: the package of their modules.
    """

    def __init__(
        self, *args: Any, members: Mapping[str, Command], package: str, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._members = members
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, sorted."""
        del ctx
        return sorted(self._members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in self._members:
            return None
        module, _, name = self._members[cmd_name].target.partition(":")
        found = importlib.import_module(f"{self._package}.{module}")
        command: click.Command = getattr(found, name or "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        members = self._members
        with formatter.section("Commands"):
            formatter.write_dl([(name, members[name].help) for name in sorted(members)])
