"""Disposable Linux machines: boot one, use it, drop it.

::

    from core_infra.vm import Launcher

    with Launcher() as launcher, launcher.boot() as machine:
        print(machine.exec("uname -r").stdout)
"""

from core_infra.vm.booting import BootError
from core_infra.vm.guest.client import GuestGoneError, GuestOperationError
from core_infra.vm.guest.command import (
    ExecResult,
    GuestCommandError,
    GuestCommandTimeoutError,
    GuestProcess,
    OutputLine,
)
from core_infra.vm.images.image import Image, load_image
from core_infra.vm.launcher import Launcher
from core_infra.vm.machine import Machine, MachineStateError, Status
from core_infra.vm.stalling import MachinePausedError

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
