"""Machines that stay and are paused because this host has no room for what they write.

Nobody watches them all the time: whoever looks at one, or waits for a command in it, lets it go on
when there is room again.
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
"""Bytes: only where less is free, it is worth asking the hypervisor."""


def pause(container: Container, folder: MachineDirectory) -> MachinePausedError | None:
    """Why a machine is paused; None if it runs, or goes on now that there is room."""
    try:
        monitor = Qmp(connect(folder.line("monitor")))
    except CoreInfraError:
        return None  # it has none, or has ended
    try:
        return _pause(container, folder, monitor)
    except CoreInfraError:
        return None
    finally:
        monitor.close()


def _pause(
    container: Container, folder: MachineDirectory, monitor: Qmp
) -> MachinePausedError | None:
    def is_paused() -> bool:
        status = monitor.execute("query-status", timeout=_ANSWER)
        return bool(status["status"] == PAUSED)

    if not is_paused():
        return None
    path = _unwritten(monitor.execute("query-block", timeout=_ANSWER)) or folder.path
    if free(path) >= LITTLE:
        monitor.execute("cont", timeout=_ANSWER)
        time.sleep(_SETTLED)  # a write that fails again pauses it again
        if not is_paused():
            return None
    return MachinePausedError(
        f"machine {container.name} is paused: this host cannot write its disk",
        why=described(path),
        todo="Make room there; it goes on as soon as somebody looks at it, such as core-infra vm "
        "ps.",
        path=str(path),
    )


def _unwritten(devices: list[dict[str, Any]]) -> Path | None:
    """The directory of the disk that could not be written."""
    for device in devices:
        if device.get("io-status", "ok") != "ok" and "inserted" in device:
            path = Path(device["inserted"]["file"]).parent
            return path if path.is_dir() else None
    return None


class Watch:
    """While somebody waits for a machine: says that it is paused, and lets it go on.

    Args:
        container: the machine.
        folder: its directory.
        tell: is given a line when it is paused, and when it goes on.
    """

    def __init__(
        self, container: Container, folder: MachineDirectory, tell: Callable[[str], None]
    ) -> None:
        self._container = container
        self._folder = folder
        self._tell = tell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="core-infra-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        said = False
        while not self._ended.wait(_LOOK):
            if not said and free(self._folder.path) >= _SCARCE:
                continue
            found = pause(self._container, self._folder)
            if found is not None and not said:
                self._tell(str(found))
            elif found is None and said:
                self._tell(f"machine {self._container.name} goes on: there is room again")
            said = found is not None
