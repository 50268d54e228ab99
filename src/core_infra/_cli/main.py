"""The command ``core-infra``: one module of this package for each of its commands."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click

from core_infra import errors
from core_infra._cli.exit_codes import (
    EXIT_CODES,
    UNAVAILABLE,
    Terminated,
    ending_in_order,
    exit_code,
)
from core_infra._cli.lazy_group import Command, LazyGroup
from core_infra._cli.streams import standard_streams

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

__all__ = ["EXIT_CODES", "exit_code", "main"]

SIGNALLED = 128
INTERRUPTED = 130
"""As a shell has it: 128 and the signal's number."""

EPILOG = """\b
exit codes:
  0    it worked
  1    it failed in a way that has no code of its own
  2    wrong usage
  3    what was named does not exist
  4    what was to be made is there already
  5    a value, a file or a message is not of the form it must have
  6    not in this state
  7    it did not happen in time
  8    a program that was run failed
  9    this host lacks something: a program, a device, a network
  130  interrupted (Ctrl-C); 143 told to end (SIGTERM)
"""


COMMANDS: dict[str, Command] = {
    "build": Command("build", "Build a project."),
    "release": Command("release", "Make a release of a project that others can verify."),
    "run": Command("run", "Run the tasks of a file, by their dependencies."),
    "archive": Command("archive", "Pack artifacts, with the same bytes every time."),
    "checksum": Command("checksum", "Hash files, and write what sha256sum -c reads."),
    "jobs": Command("jobs", "Run handlers on signals, and show what was done."),
    "discover": Command("discover", "Tell what kind of project a directory is."),
    "vm": Command("vm", "Run machines that outlive the command, and enter them."),
    "verify": Command("verify", "Check a release as somebody who has downloaded it would."),
}
"""Each module has its command, or its group of commands, as ``command``."""


class MainGroup(LazyGroup):
    """All commands, and what becomes of their errors."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line, and end with its exit code."""
        with standard_streams():
            try:
                try:
                    return super().main(*args, **options)
                finally:
                    sys.stdout.flush()
            except errors.CoreInfraError as error:  # of the output: --help, --version, the flush
                click.echo(f"core-infra: {error}", err=True)
                sys.exit(exit_code(error))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error of the library is one message and an exit code of its own."""
        try:
            with ending_in_order():
                return super().invoke(ctx)
        except Terminated as told:
            ctx.exit(SIGNALLED + told.number)
        except KeyboardInterrupt:
            click.echo("core-infra: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except errors.CoreInfraError as error:
            click.echo(f"core-infra: {error}", err=True)
            ctx.exit(exit_code(error))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            what = error.filename or "a file"
            click.echo(f"core-infra: {what} cannot be written: {error.strerror}", err=True)
            ctx.exit(UNAVAILABLE)


@click.command(cls=MainGroup, members=COMMANDS, package="core_infra._cli", epilog=EPILOG)
@click.version_option(package_name="core-infra")
def main() -> None:
    """Machines, processes, builds and jobs from a terminal."""
