"""``core-infra vm run``: run a machine."""

from __future__ import annotations

import click

from core_infra._cli.vm import values
from core_infra._cli.vm.shared import manager, pairs, print_line
from core_infra.errors import CommandFailedError
from core_infra.vm._images.linuxkit.assemblers import ASSEMBLERS, make_assembler
from core_infra.vm._manager.record import ContainerStatus
from core_infra.vm._manager.run_options import RunOptions


@click.command("run")
@click.argument("image", required=False)
@click.option("--template", help="Build and run the image of this template.")
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the template."
)
@click.option(
    "--assembler",
    type=click.Choice(ASSEMBLERS),
    default=ASSEMBLERS[0],
    show_default=True,
    help="What builds the image of a LinuxKit file.",
)
@click.option("--name", help="The machine's name.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; print the ID.")
@click.option("-m", "--memory", type=click.IntRange(1), help="Memory in MiB.")
@click.option("-c", "--cpus", type=click.IntRange(1), help="Virtual processors; default: 1.")
@click.option("--cpu", help="Processor, in the form of QEMU's -cpu, such as max,cx16=off.")
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="[[ADDRESS:][HOST]:]GUEST[/udp]",
    help="Forward a port of 127.0.0.1 or ADDRESS; default HOST: a free port.",
)
@click.option(
    "-v",
    "--volume",
    "volumes",
    multiple=True,
    metavar="DIRECTORY:PATH[:ro]",
    help="Mount a directory or file of this host in the machine; ro: read only.",
)
@click.option("--ssh-port", type=click.IntRange(1, values.HIGHEST), help="Default: a free port.")
@click.option("--ssh-user", default="root", show_default=True)
@click.option(
    "--ssh-key", type=click.Path(), default="", help="Your private key; default: a new key."
)
@click.option("--hypervisor", default="", help="qemu or hyperkit; default: what is installed.")
@click.option("--accel", default="auto", show_default=True, help="auto, kvm, hvf or tcg.")
@click.option("--arch", default="", help="x86_64 or aarch64, for `default` or a disk.")
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="A Debian package that the machine has, with IMAGE `default` or `debian`.",
)
@click.option("--suite", default="", help="The release that has the packages, such as trixie.")
@click.option("--isolated", is_flag=True, help="Block all network access of the machine.")
@click.option("--in-place", is_flag=True, help="Write to the image's own disk.")
def command(
    image: str | None,
    *,
    template: str | None,
    variables: tuple[str, ...],
    assembler: str,
    name: str | None,
    detach: bool,
    memory: int | None,
    cpus: int | None,
    cpu: str | None,
    ports: tuple[str, ...],
    volumes: tuple[str, ...],
    ssh_port: int | None,
    ssh_user: str,
    ssh_key: str,
    hypervisor: str,
    accel: str,
    arch: str,
    packages: tuple[str, ...],
    suite: str,
    isolated: bool,
    in_place: bool,
) -> None:
    """Run a machine from IMAGE (`default`, or the path of an image) or from a --template.

    An image is a disk (qcow2, raw, iso, vmdk, vdi, vhd, vhdx, …, also compressed as .xz or .gz),
    the common prefix of a kernel and its initrd, a LinuxKit file (NAME.yml), an OCI image
    (oci:NAME:TAG, oci-layout:DIRECTORY or oci-archive:FILE), or a release of Debian or Ubuntu
    (debian:12). In the foreground, its console is this terminal, and Ctrl-] stops it.
    """
    if (image is None) == (template is None):
        raise click.UsageError("Give either an IMAGE or a --template.")
    if variables and template is None:
        raise click.UsageError("--var is for a --template.")
    options = RunOptions(
        name=name,
        detach=detach,
        memory=memory,
        cpus=cpus,
        cpu=cpu,
        publish=values.ports(ports),
        volumes=values.volumes(volumes),
        ssh_port=ssh_port or 0,
        ssh_user=ssh_user,
        ssh_key=ssh_key,
        hypervisor=hypervisor,
        accelerator=accel,
        arch=arch,
        packages=packages,
        suite=suite,
        isolated=isolated,
        in_place=in_place,
    )
    is_ours = assembler == ASSEMBLERS[0]  # which is made for each file, for its lock
    machines = manager(None if is_ours else make_assembler(assembler, progress=print_line))
    if template is not None:
        given = dict(pairs(variables, "=", "NAME=VALUE"))
        container = machines.run_template(template, given, options)
    else:
        assert image is not None  # noqa: S101 - checked above
        container = machines.run(image, options)
    if detach:
        click.echo(container.id)
    elif container.status is ContainerStatus.ERROR:
        raise CommandFailedError(f"machine {container.name} failed", why=container.reason)
