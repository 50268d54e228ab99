"""What is known of a process at one moment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from core_infra.process.status import Status


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a program has used: itself, and those of its children that it waited for.

    Attributes:
        wall: seconds from its start to its end.
        user: seconds of CPU in the program.
        system: seconds of CPU in the kernel for it.
        peak_memory: bytes; the largest resident size that one of these processes had.
    """

    wall: float
    user: float
    system: float
    peak_memory: int


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """A process as it was when asked.

    Attributes:
        id: its name in the service: ``proc-1``, ``proc-2``, ….
        command: the program.
        args: its arguments.
        dir: its working directory.
        started_at: when it was started; None before that.
        status: where in its life it is.
        exit_code: minus the signal's number if a signal ended it; None while it runs.
        duration: seconds since its start, or from there to its end.
        pid: its process id; None before its start.
        restarts: how often it was started again.
        usage: what it used; None while it runs.
    """

    id: str
    command: str
    args: tuple[str, ...]
    dir: Path
    started_at: datetime | None
    status: Status
    exit_code: int | None
    duration: float
    pid: int | None
    restarts: int
    usage: Usage | None
