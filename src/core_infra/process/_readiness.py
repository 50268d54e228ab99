"""Waiting until a program is ready, and saying why it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.process._errors import NotReadyError
from core_infra.process._listeners import listeners, sockets_of
from core_infra.process._log_pattern import LogPattern
from core_infra.process._status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.process._probes import Probe
    from core_infra.process._process import Process

_PATIENCE = 1.0
_LINES = 20


def wait_ready(
    process: Process, probes: Sequence[Probe], *, timeout: float, interval: float
) -> None:
    """Wait until each probe has succeeded; see :meth:`Process.wait_ready`."""
    deadline = time.monotonic() + timeout
    while True:
        run = process.restarts
        for probe in probes:
            _wait(process, probe, deadline, timeout, interval)
        if process.restarts == run:  # else it has ended meanwhile, and is another one
            return


def _wait(process: Process, probe: Probe, deadline: float, timeout: float, interval: float) -> None:
    patience = getattr(probe, "timeout", _PATIENCE)
    why: str | None = ""
    while True:
        left = deadline - time.monotonic()
        ended = _has_ended(process)
        if left > 0 or ended or not why:  # after the time only if it was never looked
            why = probe.check(process, max(0.01, min(patience, left)))
        if process.status is Status.PENDING:
            why = "it has ended, and is to be started again"
        elif why is None:
            if not _has_ended(process):
                return
            why = "it would be ready, but has ended"
        if ended or left <= 0:
            raise _not_ready(process, probe, why, timeout, ended=ended)
        pause = min(interval, left)
        if process.over.is_set():
            time.sleep(pause)
        elif not isinstance(probe, LogPattern):  # which has waited already
            process.over.wait(pause)


def _has_ended(process: Process) -> bool:
    """Whether nothing can become ready any more; a daemon outlives who started it."""
    return process.over.is_set() and (process.exit_code != 0 or not process.leftovers())


def _not_ready(
    process: Process, probe: Probe, why: str, timeout: float, *, ended: bool
) -> NotReadyError:
    if ended:
        what = f"{process} ended before it was ready"
        state = f"its exit code is {process.exit_code}"
    else:
        what = f"{process} was not ready within {timeout:g} s"
        state = f"it still runs, as process {process.pid}"
    ports = _listening(process)
    lines = process.output().splitlines()[-_LINES:]
    told = [
        f"{probe!r}: {why}",
        state,
        f"it listens on {', '.join(ports)}" if ports else "it listens on no port",
        "its last lines:" if lines else "it has written nothing",
        *lines,
    ]
    return NotReadyError(
        what, why="\n".join(told), timeout=timeout, process=process.id, ports=ports, lines=lines
    )


def _listening(process: Process) -> list[str]:
    """Where it, and all that it started, listen for TCP."""
    inodes, _ = sockets_of(process.leftovers())
    return sorted({str(one) for one in listeners() if one.inode in inodes})
