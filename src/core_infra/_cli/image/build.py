"""``core-infra image build``: the image of a LinuxKit file, or one with a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from core_infra._cli.image.named import Kept, build_named
from core_infra._cli.vm.shared import print_line
from core_infra.vm._images.image import checked_arch, host_arch
from core_infra.vm._images.linuxkit.output import FORMATS, build_files

if TYPE_CHECKING:
    from core_infra.vm._images.linuxkit.contents import Contents


@click.command("build")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@click.option("--name", default="", help="What the files' names begin with; default: FILES' name.")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False), default=".", help="Where they go."
)
@click.option("--arch", default="", help="x86_64 or aarch64; default: this host's.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help=f"Can be given several times; default: {FORMATS[0]}.",
)
@click.option(
    "--agent",
    is_flag=True,
    help="Put core-infra's agent into the image: core_vm needs it in a disk or a disc.",
)
@click.option(
    "--documents",
    is_flag=True,
    help="Also write NAME-sbom.cdx.json and NAME-provenance.intoto.json: the images that it was "
    "made of, and the packages inside. Needs core-infra[build].",
)
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="Instead of FILES: debian:12, oci:NAME:TAG, oci-archive:FILE, host, or a directory that "
    "holds the files of a system.",
)
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="A Debian package that the image has; default SOURCE: debian.",
)
@click.option("--suite", help="The release that has the packages, such as trixie.")
@click.option("-m", "--memory", type=click.IntRange(1), help="Memory of its machines in MiB.")
@click.option("-c", "--cpus", type=click.IntRange(1), help="Virtual processors of its machines.")
@click.option("-o", "--output", metavar="NAME", help="Keep the image of SOURCE by this name.")
@click.option("--replace", is_flag=True, help="Replace another image of this name.")
def command(
    files: tuple[str, ...],
    *,
    name: str,
    directory: str,
    arch: str,
    formats: tuple[str, ...],
    agent: bool,
    documents: bool,
    source: str | None,
    packages: tuple[str, ...],
    suite: str | None,
    memory: int | None,
    cpus: int | None,
    output: str | None,
    replace: bool,
) -> None:
    """Build the image of FILES: LinuxKit files, which are merged from the first to the last.

    It becomes NAME-kernel, NAME-initrd.img and NAME-cmdline, or by --format NAME.tar, or a disk or
    disc that boots by itself: NAME.raw, NAME.qcow2, NAME.iso. If there is a file NAME.lock beside
    the first of FILES, all images are those that it names.

    With --from or --package, the image is one of SOURCE instead, and is kept as `-o NAME`: it is
    then used as `core_vm(image="NAME")`, `--core-vm-image=NAME` and `core-infra vm run NAME`.
    """
    if source or packages or suite:
        if files or formats or agent or documents or output is None:
            why = (
                "--from and --package need -o NAME, and no FILES, --format, --agent or --documents."
            )
            raise click.UsageError(why)
        kept = Kept(output, memory, cpus, replace=replace)
        click.echo(build_named(source or "debian", packages, suite, arch or None, kept))
        return
    if not files or output is not None or memory or cpus or replace:
        raise click.UsageError("Give FILES, or --from SOURCE -o NAME.")
    name, arch = name or Path(files[0]).stem, checked_arch(arch) if arch else host_arch()

    def describe(made: Path, contents: Contents) -> None:
        from core_infra._cli.image.documents import write_documents  # noqa: PLC0415 - rarely needed

        write_documents(made, contents, name=name, arch=arch)

    made = build_files(
        [Path(file) for file in files],
        Path(directory),
        name=name,
        arch=arch,
        formats=formats or FORMATS[:1],
        agent=agent,
        progress=print_line,
        describe=describe if documents else None,
    )
    for path in made:
        click.echo(path)
