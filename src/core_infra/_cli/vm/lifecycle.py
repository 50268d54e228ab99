"""``core-infra vm ps``, ``start``, ``stop``, ``restart`` and ``rm``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from core_infra._cli.vm.shared import (
    MACHINES,
    Machine,
    for_each,
    json_option,
    kept_or_none,
    manager,
    print_table,
)
from core_infra._cli.vm.values import Seconds
from core_infra.vm._kept_machines import kept
from core_infra.vm._manager.record import ContainerStatus
from core_infra.vm._manager.stop import GRACE

if TYPE_CHECKING:
    from core_infra.vm._kept_machines import KeptMachine
    from core_infra.vm._manager.record import Container

_grace = click.option(
    "-t",
    "--time",
    "grace",
    type=Seconds(),
    default=GRACE,
    show_default=True,
    help="Seconds that the guest gets to shut down.",
)


@click.command("start")
@MACHINES
def start(machines: tuple[str, ...]) -> None:
    """Start stopped MACHINES in the background, with their disks."""
    found = manager()
    for_each(machines, lambda one: found.start(one).name)


@click.command("stop")
@MACHINES
@_grace
def stop(machines: tuple[str, ...], *, grace: float) -> None:
    """Stop MACHINES, identified by ID, unique ID prefix, or name.

    Machines that test runs left running (--core-vm-keep) are identified by process ID or name.
    """
    found = manager()

    def stop_one(machine: str) -> str:
        if (left := kept_or_none(machine)) is not None:
            return f"{left.name}: {left.stop(grace=grace)}"
        container = found.stop(machine, grace=grace)
        return f"{container.name}: {container.reason}"

    for_each(machines, stop_one)


@click.command("restart")
@MACHINES
@_grace
def restart(machines: tuple[str, ...], *, grace: float) -> None:
    """Stop MACHINES if they run, and start them again."""
    found = manager()
    for_each(machines, lambda one: found.restart(one, grace=grace).name)


@click.command("rm")
@click.argument("machines", nargs=-1, type=Machine())
@click.option("-f", "--force", is_flag=True, help="End running machines first, at once.")
@click.option("--stopped", is_flag=True, help="Remove all stopped machines.")
def rm(machines: tuple[str, ...], *, force: bool, stopped: bool) -> None:
    """Remove MACHINES with their files: disks, logs, keys."""
    if bool(machines) == stopped:
        raise click.UsageError("Give either MACHINES or --stopped.")
    found = manager()
    if stopped:
        machines = tuple(
            one.id for one in found.list() if one.status is not ContainerStatus.RUNNING
        )
    for_each(machines, lambda one: found.remove(one, force=force).name)


@click.command("ps")
@click.option("-a", "--all", "with_all", is_flag=True, help="Also list stopped machines.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@json_option
def ps(*, with_all: bool, quiet: bool, as_json: bool) -> None:
    """List running machines, including those that test runs left running (--core-vm-keep)."""
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other.")
    found = [one for one in manager().list() if with_all or one.status is ContainerStatus.RUNNING]
    left = kept()
    if quiet:
        ids = [*(one.id for one in found), *(str(one.pid) for one in left)]
        click.echo("".join(f"{id_}\n" for id_ in ids), nl=False)
    elif as_json:
        rows = [one.model_dump(mode="json") for one in found]
        rows += [_kept_facts(one) for one in left]
        click.echo(json.dumps(rows, indent=2))
    else:
        headings = ("ID", "NAME", "IMAGE", "STATUS", "PORTS", "MEMORY", "CPUS")
        print_table(headings, [*map(_row, found), *map(_kept_row, left)])


def _kept_facts(one: KeptMachine) -> dict[str, Any]:
    facts = {"id": str(one.pid), "name": one.name, "status": "running", **one.facts}
    return {**facts, "kept_of": one.owner}


def _row(one: Container) -> list[str]:
    ports = [str(port) for port in one.published]
    if one.ssh_port:
        ports.append(f"{one.ssh_port}→22")
    if one.status is not ContainerStatus.RUNNING:
        ports.clear()  # they are not open
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
