"""Starts a machine, and is killed before the machine is recorded as started."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import State

if TYPE_CHECKING:
    from core_infra.vm._manager.record import Container


class KillingState(State):
    def update(self, id_: str, **changes: Any) -> Container:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().update(id_, **changes)


if __name__ == "__main__":
    LinuxKitManager(state=KillingState(Path(sys.argv[1]))).run("default", RunOptions(detach=True))
