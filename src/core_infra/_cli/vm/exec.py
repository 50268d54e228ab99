"""``core-infra vm exec`` and ``cp``: commands in a machine, and files."""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from core_infra._cli.vm.shared import Machine, entered, exit_with, print_line
from core_infra._cli.vm.values import Seconds, named_user
from core_infra.errors import CoreInfraError
from core_infra.vm._access.file_copy import pull, push
from core_infra.vm._guest.results import GuestOperationError

if TYPE_CHECKING:
    from core_infra.vm._access.interface import RunningCommand

NO_WAY = 125
NOT_EXECUTABLE = 126
NO_PROGRAM = 127
"""The same codes as those of env, docker and podman."""

_CODES = {
    errno.ENOENT: NO_PROGRAM,
    errno.EACCES: NOT_EXECUTABLE,
    errno.ENOEXEC: NOT_EXECUTABLE,
}
_CHUNK = 1 << 16


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("machine", type=Machine())
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass this command's standard input.")
@click.option(
    "-u",
    "--user",
    default=None,
    callback=named_user,
    help="The user; default: the image's, or root.",
)
@click.option("--wait", type=Seconds(), help="Seconds to wait for the machine to boot.")
def exec_(
    machine: str,
    argv: tuple[str, ...],
    *,
    interactive: bool,
    user: str | None,
    wait: float | None,
) -> None:
    """Run a command in MACHINE, and exit with its exit code.

    In a machine of an OCI image it has the image's environment, directory and user.

    If a signal ended the command, the exit code is 128 plus the signal's number, as in a shell. 127
    means no such program, 126 not executable, and 125 that the machine could not be entered.
    """
    if argv[0] == "--" and len(argv) > 1:
        argv = argv[1:]
    try:
        code = _run(machine, argv, interactive=interactive, user=user or "", wait=wait)
    except CoreInfraError as error:
        # Other codes than those of core-infra, which the command itself may return.
        print_line(f"core-infra: {error}")
        number = (error.errno if isinstance(error, GuestOperationError) else None) or 0
        code = _CODES.get(number, NO_WAY)
    exit_with(code)


@click.command("cp")
@click.argument("source")
@click.argument("target")
def cp(source: str, target: str) -> None:
    """Copy a file or directory; either SOURCE or TARGET is MACHINE:PATH.

    SOURCE becomes TARGET, or is copied into TARGET under its own name if TARGET is a directory. A
    file is also copied into a TARGET that ends in a slash. If the path of a directory ends in /.,
    its content is copied. A host path that contains a colon must begin with / or ./.
    """
    (from_machine, from_path), (to_machine, to_path) = _split(source), _split(target)
    if bool(from_machine) == bool(to_machine):
        raise click.UsageError(
            "One of SOURCE and TARGET must be MACHINE:PATH; a path of this host with a colon "
            "begins with / or ./"
        )
    for machine, path, given in ((from_machine, from_path, source), (to_machine, to_path, target)):
        if machine and not path:
            raise click.UsageError(f"{given!r} has no path after the colon.")
    with entered(from_machine or to_machine) as access:
        if from_machine:
            pull(access, from_path, target)
        else:
            push(access, source, to_path)


def _run(
    machine: str, argv: tuple[str, ...], *, interactive: bool, user: str, wait: float | None
) -> int:
    way = entered(machine, timeout=wait, as_image=True, user=user)
    with way as access, access.start(argv) as process:
        if interactive:
            threading.Thread(target=_feed, args=(process,), daemon=True).start()
        else:
            process.close_stdin()
        outputs = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
        for stream, data in process.chunks():
            outputs[stream].write(data)
            outputs[stream].flush()
        return process.wait()


def _feed(process: RunningCommand) -> None:
    try:
        try:
            while data := os.read(sys.stdin.fileno(), _CHUNK):
                process.send_input(data)
        finally:
            process.close_stdin()
    except (CoreInfraError, OSError):
        return  # the command has ended, as the end of its output shows


def _split(text: str) -> tuple[str, str]:
    """The machine, empty for this host, and the path, as docker distinguishes them."""
    machine, colon, path = text.partition(":")
    if not colon or not machine or "/" in machine or machine.startswith("."):
        return "", text
    return machine, path
