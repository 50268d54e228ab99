"""Identifies processes: a pid may be reused, a pid together with its start time is unique."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path
from typing import Self

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_of(pid: int) -> str | None:
    """When a process was started, as a string to compare; None if it is not running.

    A zombie is not running. On Linux the string has the host's boot id and the clock ticks since
    the boot, which do not change when the clock is set.
    """
    if sys.platform != "linux":
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                return repr(process.create_time())
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return None
    # The second field, the name, may contain blanks and brackets: count from its end.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def is_of_this_boot(start: str) -> bool:
    """Whether this host has not been restarted since; True if that is unknown."""
    try:
        return start.partition("/")[0] == _BOOT_ID.read_text().strip()
    except OSError:
        return True


class ForeignProcess:
    """A recorded process that is not our child.

    Use :meth:`find`; close it, or use it in a ``with`` block.

    Args:
        pid: its process id.
        handle: a pidfd of it, which can never refer to another process.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle

    @classmethod
    def find(cls, pid: int | None, start: str | None) -> Self | None:
        """The process *pid*, if its start time is *start*; None if it has ended."""
        if not pid or start is None:
            return None
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return None
        # Checked after opening: the pidfd keeps the pid from being reused unnoticed.
        if start_of(pid) == start:
            return cls(pid, handle)
        os.close(handle)
        return None

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; return False if it still runs after *timeout* seconds."""
        return bool(select.select([self._handle], [], [], timeout)[0])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def fileno(self) -> int:
        """A descriptor that is readable once it has ended."""
        return self._handle

    def close(self) -> None:
        """Let go of it; it is not touched."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
