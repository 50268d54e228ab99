"""``core-infra doctor``: what works on this host, what does not, and the command that mends it."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING

import click

from core_infra._cli.exit_codes import UNAVAILABLE
from core_infra._cli.host_checks import Finding, State, look_at_host
from core_infra._cli.vm.shared import print_line
from core_infra.errors import CoreInfraError
from core_infra.vm import Launcher

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS = {State.OK: "green", State.MISSING: "yellow", State.BROKEN: "red"}
_INDENT = " " * 11


@click.command()
@click.option("--boot", is_flag=True, help="Also run a command in a machine; builds the image.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, boot: bool, as_json: bool) -> None:
    """Look at this host: what works, what does not, and the command that mends it.

    Nothing is changed, except that --boot builds the default image if it is not built yet. The exit
    code is 9 if no machine can run here.
    """
    findings = list(look_at_host())
    if boot and not _broken(findings):
        findings.append(_boot())
    if as_json:
        click.echo(json.dumps([one._asdict() for one in findings], indent=2))
    else:
        _print(findings)
    if _broken(findings):
        click.get_current_context().exit(UNAVAILABLE)


def _boot() -> Finding:
    try:
        with Launcher(ready=0, progress=print_line) as launcher:
            launcher.discard(launcher.clone())
            began = time.monotonic()
            with launcher.clone() as machine:
                release = machine.exec("uname -sr", check=True).stdout.strip()
            detail = f"{release}, a clone's answer after {time.monotonic() - began:.2f} s"
    except CoreInfraError as error:
        return Finding("boot", "machine", State.BROKEN, error.what, remedy=error.todo or error.why)
    return Finding("boot", "machine", State.OK, detail)


def _broken(findings: Iterable[Finding]) -> list[Finding]:
    return [one for one in findings if one.state is State.BROKEN]


def _print(findings: list[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    for group, members in itertools.groupby(findings, key=lambda one: one.group):
        click.secho(group, bold=True)
        for one in members:
            state = click.style(f"{one.state:<7}", fg=_COLOURS[one.state])
            click.echo(f"  {state}  {one.name:<{width}}  {one.detail}")
            if one.state is not State.OK:
                if one.needed_for:
                    click.echo(f"{_INDENT}{'':<{width}}  needed for {one.needed_for}")
                if one.remedy:
                    click.echo(f"{_INDENT}{'':<{width}}  → {one.remedy}")
    click.echo()
    broken = [one.name for one in _broken(findings)]
    if broken:
        click.echo(f"No machine can run here yet: see {', '.join(broken)}.")
    else:
        click.echo("Machines can run here: pytest --core-vm")
