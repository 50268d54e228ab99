"""Resumes a machine that QEMU has paused because a disk of it cannot be written.

QEMU pauses a machine when the host's file system is full, and keeps the write that failed. When it
is resumed, it tries that write again, so the guest never notices. Free space is checked only while
a machine is paused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from core_infra._eventloop.supervisor import Timer, supervisor
from core_infra._unpatched import os, time
from core_infra.vm._free_space import LITTLE, HostFullError, described, free

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._hypervisors.qmp import Qmp

GRACE = 5.0
"""Seconds that calls wait for a paused machine: there may be room again when other tests end."""

LOG = "hypervisor.log"
"""What QEMU prints, in the directory of its machine."""

_REASON = re.compile(r"^core-infra: a disk cannot be written: error (\d+)$", re.MULTILINE)

PAUSED = "io-error"
"""QEMU's name of the state."""

_LOOK = 0.2
_RETRY = 2.0  # if free space does not show when to try again, as with a quota
_SETTLED = 0.5


class MachinePausedError(HostFullError):
    """A machine is paused because its disk cannot be written; it resumes when that is possible."""


class IoPause:
    """Watches one VMM process for writes that fail, and resumes its machine when there is room.

    All of it happens on the supervisor's thread.

    Args:
        qmp: its monitor.
        disk: the file that the disk of this number is written to.
        changed: called when the machine is paused, and when it resumes.
        expired: called when it is still paused after the grace.

    Attributes:
        error: why it is paused; None while it runs.
        until: when the grace ends, on ``time.monotonic``.
    """

    def __init__(
        self,
        qmp: Qmp,
        disk: Callable[[str], tuple[str, Path]],
        changed: Callable[[], None],
        expired: Callable[[], None],
    ) -> None:
        self.error: MachinePausedError | None = None
        self.until = 0.0
        self._qmp = qmp
        self._disk = disk
        self._changed = changed
        self._expired = expired
        self._pause = _LOOK
        self._timers: list[Timer] = []
        self._end_of_grace: Timer | None = None
        qmp.on_event("BLOCK_IO_ERROR", self._failed)

    def close(self) -> None:
        """Watch no longer."""
        self._cancel()
        if self._end_of_grace is not None:
            self._end_of_grace.cancel()

    def _failed(self, data: dict[str, Any]) -> None:
        if data.get("action") != "stop":
            return
        name, path = self._disk(str(data.get("node-name", "")))
        full = bool(data.get("nospace"))
        first, self.error = self.error is None, _error(name, path, data)
        if first:
            self.until = time.monotonic() + GRACE
            self._end_of_grace = supervisor().after(GRACE, self._expired)
            self._changed()
        self._cancel()

        def look() -> None:
            if full and free(path.parent) < LITTLE:
                self._later(_LOOK, look)
            else:
                self._qmp.ask("query-status", go_on)

        def go_on(status: Any) -> None:
            if status.get("status") == PAUSED:
                # What is free may still be too little: then it comes back here.
                self._pause = min(2 * self._pause, _RETRY)
                self._qmp.post("cont")
                self._later(_SETTLED, self._recovered)
            elif status.get("running"):  # another client has resumed it
                self._recovered()
            else:  # it was quiesced meanwhile, and will be resumed by that code
                self._later(_RETRY, look)

        self._later(self._pause if full else _RETRY, look)

    def _recovered(self) -> None:
        self.error, self._pause = None, _LOOK
        self.close()
        self._changed()

    def _later(self, seconds: float, job: Callable[[], None]) -> None:
        self._timers.append(supervisor().after(seconds, job))

    def _cancel(self) -> None:
        while self._timers:
            self._timers.pop().cancel()


def _host_reason(disk: Path) -> str:
    """What the library in QEMU says of the disk (``csrc/forkserver/disks.c``), or nothing."""
    try:
        log = (disk.parent / LOG).read_text(errors="replace")
    except OSError:
        return ""
    found = _REASON.findall(log)
    return os.strerror(int(found[-1])) if found else ""


def _error(name: str, path: Path, data: dict[str, Any]) -> MachinePausedError:
    reason = _host_reason(path) or data.get("reason", "")
    return MachinePausedError(
        f"machine {name} is paused: this host cannot write its disk {path.name}",
        why=f"{reason}: {described(path.parent)}",
        todo="It resumes by itself as soon as there is room. TMPDIR chooses another place for "
        "machines that run.",
        path=str(path),
    )
