"""Runs programs of the host that build images."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, TimeoutExpiredError, UnavailableError
from core_infra.vm._free_space import says_full

if TYPE_CHECKING:
    from pathlib import Path

USE_OWN_IMAGE = (
    "Pass an image of your own instead: --core-vm-image=NAME, "
    "where NAME-kernel, NAME-initrd.img and NAME-cmdline are the files."
)

_SHOWN_LINES = 10


def require_programs(*names: str) -> None:
    """Check that the programs are on PATH.

    Raises:
        UnavailableError: one is not; the error says what to do instead.
    """
    for name in names:
        if shutil.which(name) is None:
            raise UnavailableError(
                "The default guest image can't be built on this host",
                why=f"it is made of Debian or Ubuntu packages, and {name} is not on PATH",
                todo=USE_OWN_IMAGE,
            )


def run(command: list[str], *, cwd: Path | None = None, timeout: float = 900) -> str:
    """Run a program to its end, without a terminal and in the C locale, and return its output.

    Raises:
        CommandFailedError: its exit code was not 0; shows the last lines of its standard error.
        OSError: the disk is full.
        TimeoutExpiredError: it took longer than *timeout* seconds and was killed.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutExpiredError(
            f"{command[0]} did not end within {timeout:g} s",
            why=(error.stderr or b"").decode(errors="replace").strip(),
            timeout=timeout,
        ) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if says_full("\n".join(lines)):
            full = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, f"{full} ({command[0]} needs more)")
        raise CommandFailedError(
            f"{' '.join(command)} failed with exit code {done.returncode}",
            why="\n".join(lines[-_SHOWN_LINES:]),
            command=command,
            exit_code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
        )
    return done.stdout.decode(errors="replace")
