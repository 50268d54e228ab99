"""``core-infra verify``: check a release directory as its downloader would."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from core_infra.build._compare import Side, first_difference
from core_infra.build._errors import VerificationError
from core_infra.build._verify import VerificationReport, verify_release
from core_infra.medium._local import LocalMedium


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--key",
    "key_file",
    default="",
    help="The only public key to accept, OpenPGP or PEM; requires a signature.",
)
@click.option("--require-signature", is_flag=True, help="Fail if the release is not signed.")
@click.option("--identity", default="", help="Who must have signed it by sigstore.")
@click.option("--issuer", default="", help="The URL of the identity provider of --identity.")
@click.option("--partial", is_flag=True, help="Accept missing files.")
@click.option(
    "--repacked", is_flag=True, help="Accept archives with other bytes but the same contents."
)
@click.option("--same-as", type=click.Path(exists=True), help="Also compare with another build.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: str,
    *,
    key_file: str,
    require_signature: bool,
    identity: str,
    issuer: str,
    partial: bool,
    repacked: bool,
    same_as: str | None,
    as_json: bool,
) -> None:
    """Check all files of a release DIRECTORY.

    It checks the signature (by gpg, against its keyring, or by --key), CHECKSUMS.txt, the manifest
    with its content digests, the bill of materials and the provenance.
    """
    if bool(identity) != bool(issuer):
        raise click.UsageError("--identity and --issuer belong together.")
    medium = LocalMedium()
    try:
        report = verify_release(
            medium,
            directory,
            key_file=key_file,
            require_signature=require_signature,
            identity=identity,
            issuer=issuer,
            partial=partial,
            repacked=repacked,
        )
    except VerificationError as error:
        _show(error.report, as_json=as_json)
        raise
    _show(report, as_json=as_json)
    if same_as and (found := first_difference(Side(medium, directory), Side(medium, same_as))):
        raise VerificationError(
            f"{directory!r} and {same_as!r} differ", why=str(found), problems=[str(found)]
        )


def _show(report: VerificationReport, *, as_json: bool) -> None:
    if as_json:
        checks = [asdict(one) for one in report.checks]
        data = {"ok": not report.problems, "problems": report.problems, "checks": checks}
        click.echo(json.dumps(data, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "file", "note"):
        table.add_column(heading, overflow="fold")
    for one in report.checks:
        mark = "[red]✗[/]" if one.why else "-" if one.skipped else "[green]✓[/]"
        table.add_row(mark, one.what, one.name, one.why or one.note)
    Console(highlight=False, soft_wrap=False).print(table)
