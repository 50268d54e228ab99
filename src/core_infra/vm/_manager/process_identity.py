"""Which process a number means: a pid is used again, a pid with its start is not."""

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
    """When a process was started, as a word to compare; None if it does not run.

    A zombie does not run. On Linux the word is the host's start and the clock ticks since then: a
    clock that is set meanwhile changes neither.
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
    """Whether this host has not been restarted since then, as far as can be told."""
    try:
        return start.partition("/")[0] == _BOOT_ID.read_text().strip()
    except OSError:
        return True


class ForeignProcess:
    """A process that is no child of ours, and is still the one that was recorded.

    Use :meth:`find`; close it, or use it in a ``with`` block.

    Args:
        pid: its process id.
        handle: a pidfd of it; it never comes to mean another process.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle

    @classmethod
    def find(cls, pid: int | None, start: str | None) -> Self | None:
        """The process *pid*, if it is the one that was started then; None if that has ended."""
        if not pid or start is None:
            return None
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return None
        # Looked at after opening: from here on the pid means this process or none.
        if start_of(pid) == start:
            return cls(pid, handle)
        os.close(handle)
        return None

    def wait(self, timeout: float | None) -> bool:
        """Wait until it has ended; False if it has not after *timeout* seconds."""
        return bool(select.select([self._handle], [], [], timeout)[0])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
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
