"""``core-infra vm open`` and ``show``: the capsule of a failed test."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from core_infra._cli.vm.shared import exit_with, print_line
from core_infra.medium import LocalMedium
from core_infra.vm._capsule.file import Capsule
from core_infra.vm._capsule.page import page
from core_infra.vm._capsule.wake import moment_of, woken
from core_infra.vm._guest.results import harmless


@click.command("open", context_settings={"allow_interspersed_args": False})
@click.argument("capsule")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
@click.option("--at", metavar="N", help="Before the command [N] of the test, not at its end.")
def open_(capsule: str, argv: tuple[str, ...], at: str | None) -> None:
    """Wake a machine of CAPSULE as it stood when its test failed, and open a shell in it.

    CAPSULE is the file that the report of a failed test names; FILE:NAME chooses one of several
    machines. With ARGV, that command is run instead of a shell. The machine ends when you leave;
    the capsule stays as it is. With --at, it wakes as it stood before a command of the test, if the
    test ran with --core-vm-trace-steps; its report shows the numbers. Open only capsules from
    people whose tests you would run.
    """
    path, name = _split(capsule)
    if at is None and argv[:1] == ("--at",):  # after CAPSULE, where one types it
        if len(argv) == 1:
            raise click.UsageError("Option '--at' requires an argument.")
        at, argv = argv[1], argv[2:]
    before = None if at is None else _number(at)
    found = Capsule(path)
    if not argv and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("There is no terminal for a shell; give a command to run.")
    with woken(found, name, before=before) as machine:
        if argv:
            result = machine.exec(argv)
            sys.stdout.buffer.write(result.stdout_bytes)
            sys.stdout.buffer.flush()
            sys.stderr.buffer.write(result.stderr_bytes)
            code = result.exit_code
        else:
            test = harmless(str(found.manifest.get("test", "a test")))
            moment = ""
            if before is not None:
                what = harmless(str(moment_of(found, before)["what"]))
                moment = f" before [{before}] $ {what}"
            print_line(f"{test}: {machine.name} as it stood{moment}")
            code = machine.shell()
    exit_with(code)


@click.command("show")
@click.argument("capsule")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The page.")
def show(capsule: str, output: Path | None) -> None:
    """Write CAPSULE as one HTML page, beside it by default, and print the page's path.

    The page needs no server and loads nothing from anywhere.
    """
    path, _ = _split(capsule)
    found = Capsule(path)
    target = output or path.with_suffix(".html")
    LocalMedium().write_text(str(target), page(found.manifest))
    click.echo(target)


def _number(at: str) -> int:
    """The number of a command: "3", or "command 3"."""
    try:
        return int(at.removeprefix("command").strip(" []"))
    except ValueError:
        raise click.UsageError(
            f"Option '--at': {at!r} is not the number of a command, such as 3."
        ) from None


def _split(text: str) -> tuple[Path, str]:
    """The file, and the name of a machine if one follows."""
    path, colon, name = text.rpartition(":")
    if colon and not Path(text).exists():
        return Path(path), name
    return Path(text), ""
