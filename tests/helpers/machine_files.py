"""The files of a manager's machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._manager.registry import MACHINES

if TYPE_CHECKING:
    from core_infra.vm._manager.manager import LinuxKitManager
    from core_infra.vm._manager.record import Container


def directory_of(manager: LinuxKitManager, machine: Container) -> MachineDirectory:
    return MachineDirectory(manager.state.directory / MACHINES / machine.id)
