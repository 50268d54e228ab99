"""Parts that several commands of ``core-infra vm`` use."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table

from core_infra._cli.exit_codes import SIGNALLED, exit_code
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._kept_machines import find_kept
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.state_file import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._images.linuxkit.assemblers import Assembler
    from core_infra.vm._kept_machines import KeptMachine

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Machine(click.ParamType[str]):
    """A machine's id, a unique prefix of it, or its name."""

    name = "machine"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names and ids that begin with *incomplete*."""
        del ctx, param
        try:
            known = State(progress=lambda _line: None).all()
        except CoreInfraError:
            return []
        return [
            CompletionItem(word, help=f"{one.status}, {one.image}")
            for one in known
            for word in (one.name, one.id)
            if word.startswith(incomplete)
        ]


MACHINES = click.argument("machines", nargs=-1, required=True, type=Machine())


def manager(assembler: Assembler | None = None) -> LinuxKitManager:
    """The user's machines; progress lines go to standard error."""
    return LinuxKitManager(assembler=assembler, progress=print_line)


def kept_or_none(machine: str) -> KeptMachine | None:
    """A machine that a test run kept; None if *machine* is one of the manager's.

    Raises:
        NotFoundError: it is neither.
        InvalidError: it may be several.
    """
    try:
        found = manager().find(machine)
    except NotFoundError as error:
        try:
            return find_kept(machine)
        except NotFoundError:
            if machine.isdecimal():
                raise
            raise error from None
    if machine not in (found.id, found.name):
        with contextlib.suppress(NotFoundError):
            left = find_kept(machine)
            raise InvalidError(
                f"{machine!r} may be two machines",
                why=f"the id of {found.name} begins so, {found.id}, and a test run has kept "
                f"{left.name} with the process id {left.pid}",
                todo=f"Write {found.id}, or {left.name if machine == str(left.pid) else left.pid}.",
            )
    return None


@contextlib.contextmanager
def entered(
    machine: str, *, timeout: float | None = None, as_image: bool = False, user: str = ""
) -> Iterator[GuestAccess]:
    """A way into a machine of the manager, or into one that a test run kept."""
    left = kept_or_none(machine)
    if left is not None:
        with contextlib.closing(left.enter(timeout=timeout, progress=print_line)) as access:
            access.run_as(left.run_config if as_image else None, user)
            yield access
        return
    found = manager()
    way = found.enter(machine, timeout=timeout, as_image=as_image, user=user)
    try:
        with found.watch(machine):
            yield way
    finally:
        way.close()


def for_each(names: Sequence[str], action: Callable[[str], str]) -> None:
    """Run an action for each machine and print its result; a failure does not stop the others.

    Raises:
        SystemExit: with the code of the first failure, after the last machine.
    """
    codes = []
    for name in dict.fromkeys(names):
        try:
            click.echo(action(name))
        except CoreInfraError as error:
            print_line(f"core-infra: {error}")
            codes.append(exit_code(error))
    if codes:
        raise SystemExit(codes[0])


def print_line(line: str) -> None:
    """Print a line to standard error."""
    click.echo(line, err=True)


def exit_with(code: int) -> None:
    """Exit with the code of a command in a machine."""
    raise SystemExit(code if code >= 0 else SIGNALLED - code)


def print_table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; without a terminal, lines are not wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, width=width).print(table, soft_wrap=width is not None)


def pairs(values: Sequence[str], separator: str, form: str) -> list[tuple[str, Any]]:
    """Split each ``A=B`` at the separator.

    Raises:
        click.BadParameter: a value does not have this *form*.
    """
    found = []
    for value in values:
        first, given, second = value.partition(separator)
        if not first or not given:
            raise click.BadParameter(f"{value!r} is not of the form {form}")
        found.append((first, second))
    return found
