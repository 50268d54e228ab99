"""``core-infra archive`` and ``checksum``: reproducible archives, and digests."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import asdict

import click

from core_infra.build._archives.archive import Format, Profile, archive_all, archive_all_with_format
from core_infra.build._artifact import Artifact, Target
from core_infra.build._documents.checksums import checksum_all, write_checksum_file
from core_infra.medium._local import LocalMedium

_SYSTEMS = "aix|android|darwin|dragonfly|freebsd|illumos|ios|js|linux|netbsd|openbsd|plan9|solaris"
_PLATFORM = re.compile(rf"({_SYSTEMS}|wasip1|windows)_([a-z0-9]+)")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--target", help="The platform, as os/arch; default: from the directory's name.")
@click.option(
    "--format",
    "form",
    type=click.Choice([one.value for one in Format]),
    help="Default: the profile's.",
)
@click.option(
    "--profile", type=click.Choice([one.value for one in Profile]), default=Profile.DEFAULT.value
)
@click.option("--tree", is_flag=True, help="Archive whole directories.")
@click.option("--threads", type=click.IntRange(1), help="Does not change the output.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def archive(
    paths: tuple[str, ...],
    *,
    target: str | None,
    form: str | None,
    profile: str,
    tree: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Archive each of PATHS: dist/linux_amd64/app becomes dist/app_linux_amd64.tar.gz.

    A Windows artifact becomes a zip file. All members get the time SOURCE_DATE_EPOCH, or
    1980-01-01.
    """
    chosen = Target.parse(target) if target else None
    artifacts = [_artifact(path, chosen, tree=tree) for path in paths]
    medium = LocalMedium()
    if form is None:
        made = archive_all(medium, artifacts, profile=profile, threads=threads)
    else:
        made = archive_all_with_format(medium, artifacts, form, profile=profile, threads=threads)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in made], indent=2))
        return
    for one in made:
        click.echo(f"{one.checksum}  {one.path}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(), help="Write a sorted checksum file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def checksum(files: tuple[str, ...], *, output: str | None, as_json: bool) -> None:
    """Hash FILES by SHA-256, in parallel.

    In the file that --output names, as in a release's CHECKSUMS.txt, each has its base name only.
    """
    medium = LocalMedium()
    artifacts = checksum_all(medium, [Artifact(path) for path in files])
    if output:
        write_checksum_file(medium, artifacts, output)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in artifacts], indent=2))
        return
    for one in artifacts:
        click.echo(f"{one.checksum}  {one.path}")


def _artifact(path: str, target: Target | None, *, tree: bool) -> Artifact:
    directory = posixpath.basename(posixpath.dirname(posixpath.abspath(path)))
    if target is None and (match := _PLATFORM.fullmatch(directory)):
        target = Target(match[1], match[2])
    if target is None:
        return Artifact(path, tree=tree)
    return Artifact(path, target.os, target.arch, tree=tree)
