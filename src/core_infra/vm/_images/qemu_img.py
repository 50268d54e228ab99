"""Runs ``qemu-img``, which creates, inspects and converts disks."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING

from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
)
from core_infra.process._child import spawn
from core_infra.vm._free_space import is_full, no_room, says_full
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK = 0.5
_PERCENT = re.compile(r"\((\d+)(?:\.\d+)?/100%\)")


def qemu_img(about: Path, *arguments: str) -> str:
    """Run ``qemu-img`` to its end and return its output.

    Args:
        about: the disk that error messages name.
        arguments: its arguments. They must name the formats: with a format detected by content, a
            disk could lead to any file of this host.

    Raises:
        InvalidError: it failed; shows its message.
        UnavailableError: it is not installed, or the disk is full.
    """
    _require()
    try:
        return run(["qemu-img", *arguments])
    except CommandFailedError as error:
        raise InvalidError(f"cannot use {about} as a disk", why=error.why) from error
    except OSError as error:
        raise no_room(f"a disk over {about}", Path(arguments[-1]).parent, error) from error


def convert(
    source: Path, format_: str, target: Path, on_percent: Callable[[int], None], *, about: Path
) -> None:
    """Convert a disk to qcow2.

    Args:
        source: the disk.
        format_: its format.
        target: the new file.
        on_percent: called with the percentage now and then.
        about: the disk that error messages name.

    Raises:
        InvalidError: it is damaged, or another process writes to it.
        UnavailableError: qemu-img is not installed, or the disk is full.
    """
    _require()
    command = ["qemu-img", "convert", "-p", "-f", format_, "-O", "qcow2", str(source), str(target)]
    with open(os.memfd_create("qemu-img"), "r+b") as output:  # noqa: PTH123 - it has no path
        child = spawn(command, output=output, env={**os.environ, "LC_ALL": "C"})
        try:
            while child.is_running():
                try:
                    child.wait(_LOOK)
                except TimeoutExpiredError:
                    if found := _PERCENT.findall(_output_so_far(output)):
                        on_percent(int(found[-1]))
        finally:
            child.kill()
        if not child.exit_code:
            return
        lines = [
            line
            for line in re.split(r"[\r\n]+", _output_so_far(output))
            if not _PERCENT.search(line)
        ]
    why = "\n".join(line for line in lines if line.strip())
    if says_full(why) or is_full(target.parent):
        raise no_room(f"{about}, converted", target.parent)
    raise InvalidError(f"cannot use {about} as a disk", why=why)


def _output_so_far(output: IO[bytes]) -> str:
    # pread does not move the position, which the program shares.
    size = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), size, 0).decode(errors="replace")


def _require() -> None:
    if shutil.which("qemu-img") is None:
        raise UnavailableError(
            "cannot make a machine's disk",
            why="qemu-img is not on PATH",
            todo="Install it: apt-get install qemu-utils",
        )
