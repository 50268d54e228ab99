"""``core-infra vm power-off``, ``power-cut``, ``reset``, ``reboot``; ``power-on`` is ``start``."""

from __future__ import annotations

import click

from core_infra._cli.vm.shared import MACHINES, for_each, manager
from core_infra._cli.vm.values import Seconds
from core_infra.vm._manager.stop import GRACE

_timeout = click.option(
    "-t",
    "--timeout",
    type=Seconds(),
    default=GRACE,
    show_default=True,
    help="Seconds that the guest may take to shut down.",
)


@click.command("power-off")
@MACHINES
@_timeout
def power_off(machines: tuple[str, ...], *, timeout: float) -> None:
    """Shut the guests of MACHINES down. If one does not, its machine runs on."""
    found = manager()

    def off(machine: str) -> str:
        container = found.power_off(machine, timeout=timeout)
        return f"{container.name}: {container.reason}"

    for_each(machines, off)


@click.command("power-cut")
@MACHINES
def power_cut(machines: tuple[str, ...]) -> None:
    """End MACHINES at once, as if the plug was pulled. What is on their disks is kept."""
    found = manager()

    def cut(machine: str) -> str:
        container = found.power_cut(machine)
        return f"{container.name}: {container.reason}"

    for_each(machines, cut)


@click.command("reset")
@MACHINES
def reset(machines: tuple[str, ...]) -> None:
    """Cut the power of MACHINES, and boot them again, in the background."""
    found = manager()
    for_each(machines, lambda one: found.start(found.power_cut(one).id).name)


@click.command("reboot")
@MACHINES
@_timeout
def reboot(machines: tuple[str, ...], *, timeout: float) -> None:
    """Shut the guests of MACHINES down, and boot them again, in the background.

    If a guest does not shut down, its machine runs on.
    """
    found = manager()
    for_each(machines, lambda one: found.start(found.power_off(one, timeout=timeout).id).name)
