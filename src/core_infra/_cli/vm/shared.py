"""What the commands of ``core-infra vm`` share."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table

from core_infra._cli.exit_codes import SIGNALLED, exit_code
from core_infra.errors import CoreInfraError, NotFoundError
from core_infra.vm._kept_machines import find_kept
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.record import Status
from core_infra.vm._manager.state_file import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._kept_machines import KeptMachine
    from core_infra.vm._manager.record import Container

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Machine(click.ParamType[str]):
    """A machine's id, its name, or what only its id begins with."""

    name = "machine"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names and ids that begin so."""
        del ctx, param
        try:
            known = State(tell=lambda _line: None).all()
        except CoreInfraError:
            return []
        return [
            CompletionItem(word, help=f"{one.status}, {one.image}")
            for one in known
            for word in (one.name, one.id)
            if word.startswith(incomplete)
        ]


def manager() -> LinuxKitManager:
    """The user's machines; what it tells goes to standard error."""
    return LinuxKitManager(tell=tell)


def kept_or_none(machine: str) -> KeptMachine | None:
    """A machine that a test run left running; None if MACHINE is one of the manager's.

    Raises:
        NotFoundError: it is neither.
    """
    try:
        manager().find(machine)
    except NotFoundError as error:
        try:
            return find_kept(machine)
        except NotFoundError:
            if machine.isdecimal():
                raise
            raise error from None
    return None


@contextlib.contextmanager
def entered(machine: str, *, timeout: float | None = None) -> Iterator[GuestAccess]:
    """A way into a machine of the manager's, or into one that a test run left running."""
    left = kept_or_none(machine)
    if left is not None:
        with contextlib.closing(left.enter(timeout=timeout, tell=tell)) as access:
            yield access
        return
    found = manager()
    way = found.enter(machine, timeout=timeout)
    try:
        with found.watch(machine):
            yield way
    finally:
        way.close()


def tell(line: str) -> None:
    """Say something that is not the command's output."""
    click.echo(line, err=True)


def each(names: Sequence[str], action: Callable[[str], str]) -> None:
    """Do something with each machine and print what comes of it; failures stop nobody.

    Raises:
        SystemExit: with the code of the first failure, after all has been tried.
    """
    codes = []
    for name in dict.fromkeys(names):
        try:
            click.echo(action(name))
        except CoreInfraError as error:
            tell(f"core-infra: {error}")
            codes.append(exit_code(error))
    if codes:
        raise SystemExit(codes[0])


def exit_with(code: int) -> None:
    """End as a command in a machine has ended."""
    raise SystemExit(code if code >= 0 else SIGNALLED - code)


def show(
    containers: Sequence[Container], left: Sequence[KeptMachine] = (), *, as_json: bool
) -> None:
    """Print machines, and those that test runs left running, as a table or as JSON."""
    if as_json:
        rows = [one.model_dump(mode="json") for one in containers]
        rows += [
            {"id": str(one.pid), "name": one.name, "status": "running", **one.facts}
            | {"kept_of": one.owner}
            for one in left
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    headings = ("ID", "NAME", "IMAGE", "STATUS", "PORTS", "MEMORY", "CPUS")
    print_table(headings, [*map(_row, containers), *map(_kept_row, left)])


def print_table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; as wide as it is where there is no terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, width=width).print(table, soft_wrap=width is not None)


def _row(one: Container) -> list[str]:
    ports = [str(port) for port in one.published]
    if one.ssh_port:
        ports.append(f"{one.ssh_port}→22")
    if one.status is not Status.RUNNING:
        ports.clear()  # nothing listens there any more
    reason = f" ({one.reason})" if one.reason else ""
    return [
        one.id,
        one.name,
        one.image,
        f"{one.status}{reason}",
        " ".join(ports),
        f"{one.memory} MiB",
        str(one.cpus),
    ]


def _kept_row(one: KeptMachine) -> list[str]:
    image, memory, cpus = (str(one.facts[key]) for key in ("image", "memory", "cpus"))
    status = f"running (kept of {one.owner})"
    return [str(one.pid), one.name, image, status, "", f"{memory} MiB", cpus]


def pairs(
    values: Sequence[str], separator: str, what: str, *, both: bool = True
) -> list[tuple[str, Any]]:
    """Split ``A:B`` or ``A=B``; with *both*, there must be two parts."""
    found = []
    for value in values:
        first, given, second = value.partition(separator)
        if not first or (both and not given):
            raise click.BadParameter(f"{value!r} is not of the form {what}")
        found.append((first, second if given else None))
    return found
