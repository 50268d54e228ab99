"""Leftovers: what still runs of a service's programs."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, NamedTuple

import psutil

from core_infra._unpatched import time
from core_infra.process._status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.process._process import Process

SETTLE = 0.5
"""Seconds that the programs left behind have to end by themselves, once all processes are over."""

_LINES = 20
_INTERVAL = 0.02


class Leftover(NamedTuple):
    """Something that still runs.

    Attributes:
        pid: its process id; the last one, if it is about to be restarted.
        command: its command line.
        process: the process of the service that it is, or that started it; None if that was
            removed.
    """

    pid: int
    command: str
    process: Process | None

    def describe(self) -> str:
        """A few lines: its command, the process that started it, and the last output of that."""
        head = f"{self.command} (pid {self.pid})"
        if self.process is None:
            return head
        if self.process.pid != self.pid:
            head += f", started by {shlex.join(self.process.options.argv())}"
        lines = self.process.output().splitlines()[-_LINES:]
        return "\n".join([f"{self.process.id}: {head}", *(f"    {line}" for line in lines)])


def find_leftovers(
    members: Callable[[], Sequence[int]], processes: Sequence[Process]
) -> Sequence[Leftover]:
    """Return what runs of *members*, after a moment to end by itself if all processes are over.

    Args:
        members: returns the pids.
        processes: those that may have started them.
    """
    deadline = time.monotonic() + SETTLE
    while (
        (pids := members())
        and all(process.over.is_set() for process in processes)
        and time.monotonic() < deadline
    ):
        time.sleep(_INTERVAL)
    owners = {pid: process for process in processes for pid in process.leftovers()} if pids else {}
    paused = [process for process in processes if process.status is Status.PENDING]
    return [
        *(Leftover(pid, _command(pid), owners.get(pid)) for pid in pids),
        *(Leftover(process.pid or 0, _again(process), process) for process in paused),
    ]


def _again(process: Process) -> str:
    return f"{shlex.join(process.options.argv())}, which is to be started again"


def _command(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return shlex.join(process.cmdline()) or process.name()
    return "a process that has just ended"
