"""Stops a machine in steps, from a request to the guest to SIGKILL."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._attach import connect
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._manager.record import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.process_identity import ForeignProcess
    from core_infra.vm._manager.record import Container

GRACE = 10.0
"""Seconds for a guest to shut down by itself."""

SHUT_DOWN = "the guest shut down"
"""How most machines end."""

_STEP = 2.0
"""Seconds for each of the later steps."""


def stop_machine(
    process: ForeignProcess, container: Container, directory: MachineDirectory, *, grace: float
) -> str:
    """Stop a machine of the manager; see :func:`stop_process`."""
    return stop_process(
        process,
        lambda: _ask_guest(container, directory),
        lambda: monitor(directory, "quit"),
        grace=grace,
    )


def power_off(
    process: ForeignProcess, container: Container, directory: MachineDirectory, *, timeout: float
) -> str:
    """Shut a guest down, and return how the machine ended, in words.

    Raises:
        TimeoutExpiredError: it does not end within *timeout* seconds; the machine runs on.
    """
    asked = _ask_guest(container, directory)
    if not asked or not process.wait(timeout):
        raise TimeoutExpiredError(
            f"machine {container.name} did not power off within {timeout:g} s",
            why="its guest still runs" if asked else "its guest does not answer",
            todo=f"To end it without asking its guest: core-infra vm power-cut {container.name}",
            timeout=timeout,
        )
    return SHUT_DOWN


def power_cut(process: ForeignProcess) -> str:
    """End a machine at once, and return how, in words."""
    process.signal(signal.SIGKILL)
    process.wait(None)
    return "its power was cut"


def stop_process(
    process: ForeignProcess,
    ask_guest: Callable[[], bool],
    quit_hypervisor: Callable[[], None] | None = None,
    *,
    grace: float,
) -> str:
    """Stop a hypervisor in steps, and return the step that has ended it, in words.

    Args:
        process: the hypervisor.
        ask_guest: asks the guest to shut down; returns whether it has received the request.
        quit_hypervisor: asks the hypervisor to flush its disks and end. Then it gets SIGTERM, and
            at last SIGKILL.
        grace: seconds for the guest to shut down; with 0 it is not asked.
    """
    if grace > 0 and ask_guest() and process.wait(grace):
        return SHUT_DOWN
    if quit_hypervisor is not None:
        quit_hypervisor()
        if process.wait(_STEP):
            return "the hypervisor ended on request"
    process.signal(signal.SIGTERM)
    if process.wait(_STEP):
        return "terminated"
    process.signal(signal.SIGKILL)
    process.wait(None)
    return "killed"


def _ask_guest(container: Container, directory: MachineDirectory) -> bool:
    """Ask the guest to shut down; return whether it may have received the request."""
    if container.access is not Access.AGENT:
        monitor(directory, "system_powerdown")  # the power button
        return True
    return ask_agent(directory.agent_sockets())


def ask_agent(sockets: Sequence[Path]) -> bool:
    """Ask a guest's agent to shut it down; return whether the agent has received the request."""
    try:
        access = AgentAccess(sockets, boot=_STEP, patience=_STEP)
    except CoreInfraError:  # busy, or not there
        return False
    try:
        access.poweroff()
    except CoreInfraError:
        return False
    finally:
        access.close()
    return True


def monitor(directory: MachineDirectory, command: str) -> None:
    """Send a command to the hypervisor's monitor; errors are ignored."""
    with contextlib.suppress(CoreInfraError):
        connection = Qmp(connect(directory.socket_path("monitor")))
        try:
            connection.execute(command, timeout=_STEP)
        finally:
            connection.close()
