"""``core-infra vm exec``: run a command in a machine."""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from core_infra._cli.vm.shared import Machine, entered, exit_with, tell
from core_infra.errors import CoreInfraError
from core_infra.vm._guest.client import GuestOperationError

if TYPE_CHECKING:
    from core_infra.vm._access.interface import Running

NO_WAY = 125
NOT_EXECUTABLE = 126
NO_PROGRAM = 127
"""As those of env, docker and podman."""

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
@click.option("--wait", type=click.FloatRange(0), help="Seconds to wait for the machine to boot.")
def command(machine: str, argv: tuple[str, ...], *, interactive: bool, wait: float | None) -> None:
    """Run a command in MACHINE, and exit with its exit code.

    If a signal ended the command, the exit code is 128 plus the signal's number, as in a shell. 127
    means no such program, 126 not executable, and 125 that the machine could not be entered.
    """
    if argv[0] == "--" and len(argv) > 1:
        argv = argv[1:]
    try:
        code = _run(machine, argv, interactive=interactive, wait=wait)
    except CoreInfraError as error:
        # Codes of their own, as the command itself may have any of the usual ones.
        tell(f"core-infra: {error}")
        number = (error.errno if isinstance(error, GuestOperationError) else None) or 0
        code = _CODES.get(number, NO_WAY)
    exit_with(code)


def _run(machine: str, argv: tuple[str, ...], *, interactive: bool, wait: float | None) -> int:
    with entered(machine, timeout=wait) as access, access.start(argv) as process:
        if interactive:
            threading.Thread(target=_feed, args=(process,), daemon=True).start()
        else:
            process.close_stdin()
        outputs = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
        for stream, data in process.chunks():
            outputs[stream].write(data)
            outputs[stream].flush()
        return process.wait()


def _feed(process: Running) -> None:
    try:
        try:
            while data := os.read(sys.stdin.fileno(), _CHUNK):
                process.send_input(data)
        finally:
            process.close_stdin()
    except (CoreInfraError, OSError):
        return  # it has ended, which its output tells
