"""Persistent machines that QEMU has paused because this host's disk is full.

No process watches them all the time. A command that lists such a machine, or waits for a command in
it, resumes it if there is room again.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.vm._attach import connect
from core_infra.vm._free_space import LITTLE, described, free
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._io_pause import PAUSED, MachinePausedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.record import Container

_ANSWER = 2.0
_LOOK = 0.5
_SETTLED = 0.3
_SCARCE = 64 << 20
"""Bytes; the hypervisor is asked only if less is free."""


def resume_if_possible(
    container: Container, directory: MachineDirectory
) -> MachinePausedError | None:
    """Why a machine is paused; None if it runs, or was resumed because there is room again."""
    try:
        monitor = Qmp(connect(directory.socket_path("monitor")))
    except CoreInfraError:
        return None  # the machine does not have a monitor, or has ended
    try:
        return _resumed_or_error(container, directory, monitor)
    except CoreInfraError:
        return None
    finally:
        monitor.close()


def _resumed_or_error(
    container: Container, directory: MachineDirectory, monitor: Qmp
) -> MachinePausedError | None:
    def is_paused() -> bool:
        status = monitor.execute("query-status", timeout=_ANSWER)
        return bool(status["status"] == PAUSED)

    if not is_paused():
        return None
    path = _unwritten(monitor.execute("query-block", timeout=_ANSWER)) or directory.path
    if free(path) >= LITTLE:
        monitor.execute("cont", timeout=_ANSWER)
        time.sleep(_SETTLED)  # if the write fails again, QEMU pauses it again
        if not is_paused():
            return None
    return MachinePausedError(
        f"machine {container.name} is paused: this host cannot write its disk",
        why=described(path),
        todo="Make room there; then core-infra vm ps, or the next command in it, resumes it.",
        path=str(path),
    )


def _unwritten(devices: list[dict[str, Any]]) -> Path | None:
    """The directory of the disk that could not be written."""
    for device in devices:
        if device.get("io-status", "ok") != "ok" and "inserted" in device:
            path = Path(device["inserted"]["file"]).parent
            return path if path.is_dir() else None
    return None


class PauseWatch:
    """While a command waits for a machine: reports that it is paused, and resumes it.

    Args:
        container: the machine.
        directory: its directory.
        progress: called with a line when it is paused, and when it is resumed.
    """

    def __init__(
        self, container: Container, directory: MachineDirectory, progress: Callable[[str], None]
    ) -> None:
        self._container = container
        self._directory = directory
        self._progress = progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="core-infra-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        reported = False
        while not self._ended.wait(_LOOK):
            if not reported and free(self._directory.path) >= _SCARCE:
                continue
            found = resume_if_possible(self._container, self._directory)
            if found is not None and not reported:
                self._progress(str(found))
            elif found is None and reported:
                self._progress(f"machine {self._container.name} was resumed: there is room again")
            reported = found is not None
