"""The command ``core-infra``: its groups and commands, and what its errors become."""

from __future__ import annotations

import sys
from typing import Any

import click

from core_infra import errors
from core_infra._cli.exit_codes import (
    EXIT_CODES,
    FULL,
    INTERRUPTED,
    SIGNALLED,
    UNAVAILABLE,
    Terminated,
    ending_in_order,
    exit_code,
)
from core_infra._cli.lazy_group import Command, LazyGroup
from core_infra._cli.streams import standard_streams

__all__ = ["EXIT_CODES", "exit_code", "main"]

EPILOG = """\b
exit codes:
  0    success
  1    a failure without a code of its own
  2    wrong usage
  3    something that was named does not exist
  4    something exists already
  5    a value, a file or a message is invalid
  6    not possible in this state
  7    timeout
  8    a program failed
  9    this host lacks something: a program, a device, a network
  130  interrupted (Ctrl-C); 143 terminated (SIGTERM)
"""


COMMANDS: dict[str, Command] = {
    "build": Command("build:build", "Build a project."),
    "release": Command("build:release", "Make a release that others can verify."),
    "image": Command("image", "Build images of LinuxKit files, and hold the digests of theirs."),
    "run": Command("run", "Run the tasks of a file in dependency order."),
    "archive": Command("artifacts:archive", "Archive artifacts reproducibly."),
    "checksum": Command("artifacts:checksum", "Hash files, and write a file for sha256sum -c."),
    "jobs": Command("jobs", "Run a bot's handlers on signals, and show its journal."),
    "init": Command("init", "Write a first test, a noxfile and a workflow into a project."),
    "doctor": Command("doctor", "Look at this host: what works, and what mends the rest."),
    "discover": Command("build:discover", "Detect the project type of a directory."),
    "vm": Command("vm", "Run machines that outlive the command."),
    "schema": Command("schema", "Print the JSON Schema of a file that core-infra reads."),
    "verify": Command("verify", "Check a release as its downloader would."),
}


class MainGroup(LazyGroup):
    """All commands; turns their errors into messages and exit codes."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line, and exit with its code."""
        with standard_streams():
            try:
                try:
                    return super().main(*args, **options)
                finally:
                    sys.stdout.flush()
            except errors.CoreInfraError as error:  # of the output, at --help or the flush
                click.echo(f"core-infra: {error}", err=True)
                sys.exit(exit_code(error))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error of the library is one message and an exit code."""
        try:
            with ending_in_order():
                return super().invoke(ctx)
        except Terminated as signal:
            ctx.exit(SIGNALLED + signal.number)
        except KeyboardInterrupt:
            click.echo("core-infra: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except errors.CoreInfraError as error:
            click.echo(f"core-infra: {error}", err=True)
            ctx.exit(exit_code(error))
        except OSError as error:
            if error.errno not in FULL:
                raise
            what = error.filename or "a file"
            click.echo(f"core-infra: {what} cannot be written: {error.strerror}", err=True)
            ctx.exit(UNAVAILABLE)


@click.command(cls=MainGroup, members=COMMANDS, package="core_infra._cli", epilog=EPILOG)
@click.version_option(package_name="core-infra")
def main() -> None:
    """Machines, processes, builds and jobs from a terminal."""
