"""Chooses the way into a machine by what its image offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import UnavailableError
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._access.qga import QgaAccess
from core_infra.vm._access.ssh import SshAccess
from core_infra.vm._manager.record import Access
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.record import Container

BOOT = 12.0
"""Seconds, before scaling, that a guest may take until it lets somebody in."""

_TRY = 1.5
_PAUSE = 0.3


def enter(
    container: Container,
    folder: MachineDirectory,
    *,
    timeout: float | None,
    alive: Callable[[], bool],
    tell: Callable[[str], None],
) -> tuple[Access, GuestAccess]:
    """A way into a running machine: the one that is remembered, or the first that opens.

    Args:
        container: what is remembered of it.
        folder: its directory.
        timeout: seconds that it may take to boot; None is a default that fits this host.
        alive: whether it still runs.
        tell: is given a line when it has to be waited for.

    Raises:
        NoAccessError: none opens in time.
    """
    limit = scaled(BOOT) if timeout is None else timeout
    if container.access is Access.AGENT:
        lines = folder.agent_lines()
        return Access.AGENT, AgentAccess(lines, boot=limit, patience=limit, tell=tell)
    deadline = time.monotonic() + limit
    while True:
        errors: list[UnavailableError] = []
        for kind, open_way in _ways(container, folder, min(limit, scaled(_TRY))):
            try:
                return kind, open_way()
            except UnavailableError as error:
                errors.append(error)
        if not alive():
            raise NoAccessError(f"machine {container.name} has ended")
        if time.monotonic() >= deadline:
            raise NoAccessError(
                f"cannot enter machine {container.name}",
                why="; ".join(str(error) for error in errors),
                todo=f"See what it says: core-infra vm logs {container.name}; and by its console: "
                f"core-infra vm console {container.name}",
            )
        time.sleep(_PAUSE)


def _ways(
    container: Container, folder: MachineDirectory, patience: float
) -> list[tuple[Access, Callable[[], GuestAccess]]]:
    def by_ssh() -> GuestAccess:
        assert container.ssh_port is not None  # noqa: S101 - looked at below
        return SshAccess(
            container.ssh_port,
            user=container.ssh_user,
            key=Path(container.ssh_key).expanduser() if container.ssh_key else folder.key,
            pinned=folder.host_key,
            timeout=patience,
        )

    def by_qga() -> GuestAccess:
        return QgaAccess(folder.line("qga"), timeout=min(patience, 1.0))

    ways: list[tuple[Access, Callable[[], GuestAccess]]] = []
    has_key = bool(container.ssh_key) or folder.key.exists()
    if container.ssh_port and has_key:
        ways.append((Access.SSH, by_ssh))
    if container.access is not Access.SSH:
        ways.append((Access.QGA, by_qga))
    return ways
