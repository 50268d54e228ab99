"""A guest with a boot loader that restarts: in a new VMM process, from the same disks.

QEMU 7.2 emulates a boot loader that loads a kernel over pages with translated code very slowly: it
discards code at each byte that is written, and GRUB writes byte by byte, for ten minutes. A new
process has no translated code, and so restarts as fast as it boots.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import supervisor
from core_infra.errors import CoreInfraError
from core_infra.vm._guest.connection import AgentGoneError
from core_infra.vm._hardware import REAL
from core_infra.vm._images.image import DiskImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._vmm_process import VmmProcess

_RESETS = ("guest-reset", "host-qmp-system-reset")
"""QEMU's reasons of a SHUTDOWN that is a restart."""

LINE = b"\n[core-infra: restarted]\n"
"""The line in the console's log of a machine that restarts."""


def restarts_cold(process: VmmProcess) -> bool:
    """Whether a machine restarts in a new process: an emulated one that boots from a disk."""
    spec = process.spec
    return isinstance(spec.image, DiskImage) and process.accelerator == "tcg" and spec.time == REAL


def allow_restart(process: VmmProcess) -> None:
    """Let a guest that is up restart; until then, its restart is a failed boot and ends QEMU."""
    process.qmp.post("set-action", reboot="shutdown" if restarts_cold(process) else "reset")


def is_restart(process: VmmProcess, data: dict[str, Any]) -> bool:
    """Whether QEMU ends, as a SHUTDOWN event reports, so that a new process takes over."""
    return data.get("reason") in _RESETS and restarts_cold(process) and not process.has_panicked()


def agent_restarts(name: str) -> AgentGoneError:
    """The error of calls under way in a guest that restarts."""
    return AgentGoneError(f"the agent in machine {name} has ended", why="the guest restarts")


class ColdRestart:
    """The replacement of a process that ends because its guest restarts.

    Args:
        launch: starts a process with the disks of one that has ended.
        replace: makes the new process the machine's; false if the machine was ended meanwhile.
        failed: called with the error if there is no new process.
    """

    def __init__(
        self,
        launch: Callable[[VmmProcess], VmmProcess],
        replace: Callable[[VmmProcess], bool],
        failed: Callable[[Exception], None],
    ) -> None:
        self._launch = launch
        self._replace = replace
        self._failed = failed
        self._done = Latch()

    def wait(self, timeout: float) -> None:
        """Wait until the new process is there, or cannot be; at most *timeout* seconds."""
        self._done.wait(timeout)

    def begin(self, former: VmmProcess) -> None:
        """Start the new process, on a thread of its own; *former* has ended."""
        threading.Thread(target=self._run, args=(former,), daemon=True).start()

    def _run(self, former: VmmProcess) -> None:
        try:
            supervisor().call(lambda: None)  # so what the former one has printed is in the log
            former.disconnect()
            process = self._launch(former)
            try:
                if not self._replace(process):
                    process.end()
            except BaseException:
                process.end()
                raise
        except (CoreInfraError, OSError) as error:
            self._failed(error)
        finally:
            self._done.set()
