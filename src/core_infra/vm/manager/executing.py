"""A command in a machine, from its start to its end."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from core_infra.errors import TimeoutExpiredError
from core_infra.process.real import time
from core_infra.vm.guest.command import ExecResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm.access.access import GuestAccess

_SHOWN = 2000


def run_to_end(
    access: GuestAccess, argv: Sequence[str], *, timeout: float | None = None
) -> ExecResult:
    """Run a command without input, and keep all its output.

    Args:
        access: the way in.
        argv: the command.
        timeout: seconds after which it is killed; None lets it take its time.

    Raises:
        TimeoutExpiredError: it did not end in time; shows what it wrote last.
        CoreInfraError: it could not be started.
    """
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    started = time.monotonic()
    try:
        with access.start(argv, timeout=timeout) as process:
            process.close_stdin()
            for stream, data in process.chunks():
                output[stream].append(data)
            code = process.wait()
    except TimeoutExpiredError as error:
        if timeout is None:
            raise
        written = b"".join(output["stdout"] + output["stderr"]).decode("utf-8", "replace")
        raise TimeoutExpiredError(
            f"{shlex.join(argv)!r} did not end within {timeout:g} s in the machine",
            why=f"it wrote:\n{written[-_SHOWN:]}" if written else "it wrote nothing",
            timeout=timeout,
        ) from error
    stdout, stderr = (b"".join(output[name]) for name in ("stdout", "stderr"))
    return ExecResult(list(argv), code, stdout, stderr, time.monotonic() - started)
