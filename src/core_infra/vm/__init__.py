"""Disposable Linux machines: boot one, use it, drop it.

::

    from core_infra.vm import Launcher

    with Launcher() as launcher, launcher.clone() as machine:
        print(machine.exec("uname -r").stdout)

:class:`LinuxKitManager` runs machines that persist, as ``core-infra vm`` does.
"""

from typing import TYPE_CHECKING

from core_infra import _lazy as lazy

if TYPE_CHECKING:
    from core_infra._binaries import agent_binary
    from core_infra.vm._access.interface import GuestAccess, NoAccessError, RunningCommand
    from core_infra.vm._async_machine import AsyncMachine
    from core_infra.vm._boot import BootError
    from core_infra.vm._cluster import Cluster, PreparedCluster
    from core_infra.vm._console import ConsoleSpawn
    from core_infra.vm._fault import Fault
    from core_infra.vm._faults.clock import MachineClock
    from core_infra.vm._faults.disk import MachineDisk
    from core_infra.vm._faults.guest import MachineMemory, MachineProcessors
    from core_infra.vm._faults.registry import MachineFault
    from core_infra.vm._free_space import HostFullError
    from core_infra.vm._guest.async_guest import AsyncGuest, AsyncGuestProcess
    from core_infra.vm._guest.connection import AgentGoneError, GuestGoneError
    from core_infra.vm._guest.guest import Guest
    from core_infra.vm._guest.process import GuestProcess
    from core_infra.vm._guest.results import (
        ExecResult,
        GuestCommandError,
        GuestCommandTimeoutError,
        GuestOperationError,
        OutputLine,
        WaitResult,
    )
    from core_infra.vm._guest.tree_transfer import UnsafeTreeError
    from core_infra.vm._hardware import Disk
    from core_infra.vm._hypervisors.detect import detect_hypervisor, get_hypervisor
    from core_infra.vm._hypervisors.hyperkit import HyperkitHypervisor
    from core_infra.vm._hypervisors.hypervisor import Accelerator, Hypervisor, PersistentSpec, Share
    from core_infra.vm._hypervisors.qemu import QemuHypervisor
    from core_infra.vm._images.formats import ImageFormat
    from core_infra.vm._images.image import Bootable, DiskImage, Image
    from core_infra.vm._images.linuxkit.assemblers import Assembler
    from core_infra.vm._images.linuxkit.templates import Template, TemplateManager
    from core_infra.vm._images.linuxkit.variables import (
        MissingVariablesError,
        Variables,
        apply_variables,
        extract_variables,
    )
    from core_infra.vm._images.load import load_image
    from core_infra.vm._io_pause import MachinePausedError
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_power import Waitable
    from core_infra.vm._machine_spec import MachineOptions, MachineSpec
    from core_infra.vm._machine_state import MachineStateError, Status
    from core_infra.vm._manager.manager import LinuxKitManager, Manager
    from core_infra.vm._manager.record import Access, Container, ContainerStatus, Port, Volume
    from core_infra.vm._manager.run_options import RunOptions
    from core_infra.vm._manager.state_file import State
    from core_infra.vm._network.frame import Frame
    from core_infra.vm._networks import Capture, Network, NetworkAddress
    from core_infra.vm._prepared_machine import PreparedMachine
    from core_infra.vm._ssh_login import SshLogin
else:
    __getattr__ = lazy.exports(
        __name__,
        {
            "core_infra._binaries": ("agent_binary",),
            "._access.interface": ("GuestAccess", "NoAccessError", "RunningCommand"),
            "._async_machine": ("AsyncMachine",),
            "._boot": ("BootError",),
            "._cluster": ("Cluster", "PreparedCluster"),
            "._console": ("ConsoleSpawn",),
            "._fault": ("Fault",),
            "._faults.clock": ("MachineClock",),
            "._faults.disk": ("MachineDisk",),
            "._faults.guest": ("MachineMemory", "MachineProcessors"),
            "._faults.registry": ("MachineFault",),
            "._free_space": ("HostFullError",),
            "._guest.async_guest": ("AsyncGuest", "AsyncGuestProcess"),
            "._guest.connection": ("AgentGoneError", "GuestGoneError"),
            "._guest.guest": ("Guest",),
            "._guest.process": ("GuestProcess",),
            "._guest.results": (
                "ExecResult",
                "GuestCommandError",
                "GuestCommandTimeoutError",
                "GuestOperationError",
                "OutputLine",
                "WaitResult",
            ),
            "._guest.tree_transfer": ("UnsafeTreeError",),
            "._hardware": ("Disk",),
            "._hypervisors.detect": ("detect_hypervisor", "get_hypervisor"),
            "._hypervisors.hyperkit": ("HyperkitHypervisor",),
            "._hypervisors.hypervisor": ("Accelerator", "Hypervisor", "PersistentSpec", "Share"),
            "._hypervisors.qemu": ("QemuHypervisor",),
            "._images.formats": ("ImageFormat",),
            "._images.image": ("Bootable", "DiskImage", "Image"),
            "._images.load": ("load_image",),
            "._images.linuxkit.assemblers": ("Assembler",),
            "._images.linuxkit.templates": ("Template", "TemplateManager"),
            "._images.linuxkit.variables": (
                "MissingVariablesError",
                "Variables",
                "apply_variables",
                "extract_variables",
            ),
            "._io_pause": ("MachinePausedError",),
            "._launcher": ("Launcher",),
            "._machine": ("Machine",),
            "._machine_state": ("MachineStateError", "Status"),
            "._machine_power": ("Waitable",),
            "._machine_spec": ("MachineOptions", "MachineSpec"),
            "._manager.manager": ("LinuxKitManager", "Manager"),
            "._manager.record": ("Access", "Container", "ContainerStatus", "Port", "Volume"),
            "._manager.run_options": ("RunOptions",),
            "._manager.state_file": ("State",),
            "._network.frame": ("Frame",),
            "._networks": ("Capture", "Network", "NetworkAddress"),
            "._prepared_machine": ("PreparedMachine",),
            "._ssh_login": ("SshLogin",),
        },
    )

__all__ = [
    "Accelerator",
    "Access",
    "AgentGoneError",
    "Assembler",
    "AsyncGuest",
    "AsyncGuestProcess",
    "AsyncMachine",
    "BootError",
    "Bootable",
    "Capture",
    "Cluster",
    "ConsoleSpawn",
    "Container",
    "ContainerStatus",
    "Disk",
    "DiskImage",
    "ExecResult",
    "Fault",
    "Frame",
    "Guest",
    "GuestAccess",
    "GuestCommandError",
    "GuestCommandTimeoutError",
    "GuestGoneError",
    "GuestOperationError",
    "GuestProcess",
    "HostFullError",
    "HyperkitHypervisor",
    "Hypervisor",
    "Image",
    "ImageFormat",
    "Launcher",
    "LinuxKitManager",
    "Machine",
    "MachineClock",
    "MachineDisk",
    "MachineFault",
    "MachineMemory",
    "MachineOptions",
    "MachinePausedError",
    "MachineProcessors",
    "MachineSpec",
    "MachineStateError",
    "Manager",
    "MissingVariablesError",
    "Network",
    "NetworkAddress",
    "NoAccessError",
    "OutputLine",
    "PersistentSpec",
    "Port",
    "PreparedCluster",
    "PreparedMachine",
    "QemuHypervisor",
    "RunOptions",
    "RunningCommand",
    "Share",
    "SshLogin",
    "State",
    "Status",
    "Template",
    "TemplateManager",
    "UnsafeTreeError",
    "Variables",
    "Volume",
    "WaitResult",
    "Waitable",
    "agent_binary",
    "apply_variables",
    "detect_hypervisor",
    "extract_variables",
    "get_hypervisor",
    "load_image",
]
