"""Disposable Linux machines: boot one, use it, drop it.

::

    from core_infra.vm import Launcher

    with Launcher() as launcher, launcher.boot() as machine:
        print(machine.exec("uname -r").stdout)
"""

from core_infra.vm._boot import BootError
from core_infra.vm._guest.client import GuestGoneError, GuestOperationError
from core_infra.vm._guest.command import (
    ExecResult,
    GuestCommandError,
    GuestCommandTimeoutError,
    GuestProcess,
    OutputLine,
)
from core_infra.vm._images.image import Image
from core_infra.vm._images.load import load_image
from core_infra.vm._io_pause import MachinePausedError
from core_infra.vm._launcher import Launcher
from core_infra.vm._machine import Machine, MachineStateError, Status

__all__ = [
    "BootError",
    "ExecResult",
    "GuestCommandError",
    "GuestCommandTimeoutError",
    "GuestGoneError",
    "GuestOperationError",
    "GuestProcess",
    "Image",
    "Launcher",
    "Machine",
    "MachinePausedError",
    "MachineStateError",
    "OutputLine",
    "Status",
    "load_image",
]
