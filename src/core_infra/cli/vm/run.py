"""``core-infra vm run``: run a machine."""

from __future__ import annotations

import click

from core_infra.cli.vm.shared import manager, pairs
from core_infra.errors import CommandFailedError
from core_infra.vm.manager.container import RunOptions, Status

HIGHEST = 65535


@click.command("run")
@click.argument("image", required=False)
@click.option("--template", help="Build the image of this template, and run that.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="For the template.")
@click.option("--name", help="What the machine is called.")
@click.option("-d", "--detach", is_flag=True, help="Print its id, and let it run on.")
@click.option("-m", "--memory", type=click.IntRange(1), help="MiB.")
@click.option("-c", "--cpus", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="[HOST:]GUEST",
    help="Forward a TCP port of 127.0.0.1; without HOST the system chooses it.",
)
@click.option(
    "-v",
    "--volume",
    "volumes",
    multiple=True,
    metavar="DIRECTORY:PATH",
    help="Have a directory of this host at a path of the machine.",
)
@click.option("--ssh-port", type=click.IntRange(1, HIGHEST), help="By default a free one.")
@click.option("--ssh-user", default="root", show_default=True)
@click.option(
    "--ssh-key", type=click.Path(), default="", help="Your private key; by default a new one."
)
@click.option("--hypervisor", default="", help="qemu or hyperkit; by default what there is.")
@click.option("--accel", default="auto", show_default=True, help="auto, kvm, hvf or tcg.")
@click.option("--arch", default="", help="Of a disk, which does not tell: x86_64 or aarch64.")
@click.option("--isolated", is_flag=True, help="The machine reaches no network.")
@click.option("--in-place", is_flag=True, help="Write to the image's own disk.")
def command(
    image: str | None,
    *,
    template: str | None,
    variables: tuple[str, ...],
    name: str | None,
    detach: bool,
    memory: int | None,
    cpus: int,
    ports: tuple[str, ...],
    volumes: tuple[str, ...],
    ssh_port: int | None,
    ssh_user: str,
    ssh_key: str,
    hypervisor: str,
    accel: str,
    arch: str,
    isolated: bool,
    in_place: bool,
) -> None:
    """Run a machine of IMAGE: `default`, or the path of an image, or by --template.

    An image is a disk (iso, qcow2, vmdk, raw), or what the names of a kernel and its initrd begin
    with. In the foreground its console is this terminal, and Ctrl-] stops it.
    """
    if (image is None) == (template is None):
        raise click.UsageError("Give either an IMAGE or a --template.")
    if variables and template is None:
        raise click.UsageError("--var is for a --template.")
    fixed, published = _ports(ports)
    options = RunOptions(
        name=name,
        detach=detach,
        memory=memory,
        cpus=cpus,
        ports=fixed,
        publish=published,
        volumes=_volumes(volumes),
        ssh_port=ssh_port or 0,
        ssh_user=ssh_user,
        ssh_key=ssh_key,
        hypervisor=hypervisor,
        accelerator=accel,
        arch=arch,
        isolated=isolated,
        in_place=in_place,
    )
    machines = manager()
    if template is not None:
        values = dict(pairs(variables, "=", "NAME=VALUE"))
        container = machines.run_template(template, values, options)
    else:
        assert image is not None  # noqa: S101 - looked at above
        container = machines.run(image, options)
    if detach:
        click.echo(container.id)
    elif container.status is Status.ERROR:
        raise CommandFailedError(f"machine {container.name} failed", why=container.reason)


def _volumes(values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        # From the right: a directory's name may have a colon.
        directory, colon, place = value.rpartition(":/")
        if not colon:
            [(directory, place)] = pairs([value], ":", "DIRECTORY:PATH")
        if directory in found:
            raise click.BadParameter(f"{directory} is given twice")
        found[directory] = f"/{place}" if colon else place
    return found


def _ports(values: tuple[str, ...]) -> tuple[dict[int, int], list[int]]:
    fixed: dict[int, int] = {}
    published = []
    for first, second in pairs(values, ":", "[HOST:]GUEST", both=False):
        numbers = [_port(text) for text in (first, second) if text is not None]
        if len(numbers) == 1:
            published += numbers
        elif numbers[0] in fixed:
            raise click.BadParameter(f"port {numbers[0]} is given twice")
        else:
            fixed[numbers[0]] = numbers[1]
    return fixed, published


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= HIGHEST:
        raise click.BadParameter(f"{text!r} is no port: those are 1 to {HIGHEST}")
    return int(text)
