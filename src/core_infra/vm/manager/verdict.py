"""What became of a machine whose process is gone, or is another one by now."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.vm.manager.container import Status
from core_infra.vm.manager.identity import ForeignProcess, is_of_this_boot

if TYPE_CHECKING:
    from core_infra.vm.manager.container import Container
    from core_infra.vm.manager.folder import Folder


def verdict(container: Container, folder: Folder) -> dict[str, Any]:
    """What is to be remembered of a machine that is remembered as running; nothing if it runs."""
    found = ForeignProcess.find(container.pid, container.start)
    if found is not None:
        found.close()
        return {}
    status, reason = _ending(container, folder)
    gone = {"pid": None, "start": None, "starting": False}
    return {**gone, "status": status, "reason": reason}


def _ending(container: Container, folder: Folder) -> tuple[Status, str]:
    if container.starting:
        end_leftover(folder)
        return Status.ERROR, "who started it was ended before it ran"
    if panic := folder.panic(container.log_from):
        return Status.ERROR, panic
    if container.start and not is_of_this_boot(container.start):
        return Status.STOPPED, "this host was restarted"
    if folder.pid() is None:
        return Status.STOPPED, "it ended by itself"
    last = folder.last_words()
    return Status.ERROR, f"its process was killed, or crashed{': ' if last else ''}{last}"


def end_leftover(folder: Folder) -> None:
    """End a hypervisor that was started for a machine and never recorded."""
    pid = folder.pid()
    if pid is None:
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(folder.path) in command:  # not another process with its pid
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
