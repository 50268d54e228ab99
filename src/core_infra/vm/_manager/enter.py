"""Enters running machines: opens a way in, runs commands, mounts volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import (
    CoreInfraError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
)
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._access.interface import NoAccessError, run_to_end
from core_infra.vm._access.qga import QgaAccess
from core_infra.vm._access.ssh import SshAccess
from core_infra.vm._boot import FOREIGN_BOOT_TIMEOUT
from core_infra.vm._guest.command import as_argv
from core_infra.vm._manager import volumes
from core_infra.vm._manager.launch_record import run_config
from core_infra.vm._manager.pause import PauseWatch, resume_if_possible
from core_infra.vm._manager.record import QGA, Access
from core_infra.vm._manager.stop import monitor
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._guest.results import ExecResult
    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.record import Container
    from core_infra.vm._manager.registry import Registry

BOOT = 12.0
"""Seconds, before scaling, until a way into a guest must open."""

_TRY = 1.5
_PAUSE = 0.3


class MachineAccess:
    """Enters the machines of a registry.

    Args:
        registry: the machines.
        progress: called with a line about waiting and restrictions.
    """

    def __init__(self, registry: Registry, progress: Callable[[str], None]) -> None:
        self._registry = registry
        self._progress = progress

    def run(
        self,
        id_: str,
        command: str | Sequence[str],
        *,
        timeout: float | None,
        wait: float | None,
    ) -> ExecResult:
        """See :meth:`~.manager.LinuxKitManager.exec`."""
        argv = as_argv(command)
        access = self.enter(id_, timeout=wait, as_image=True)
        try:
            with self.watch(id_):
                return run_to_end(access, argv, timeout=timeout)
        except TimeoutExpiredError as error:
            container = self._registry.find(id_)
            paused = resume_if_possible(container, self._registry.directory(container))
            raise (paused or error) from None
        finally:
            access.close()

    def watch(self, id_: str) -> PauseWatch:
        """See :meth:`~.manager.LinuxKitManager.watch`."""
        container = self._registry.find(id_)
        return PauseWatch(container, self._registry.directory(container), self._progress)

    def enter(
        self, id_: str, *, timeout: float | None = None, as_image: bool = False, user: str = ""
    ) -> GuestAccess:
        """See :meth:`~.manager.LinuxKitManager.enter`."""
        access = self._open(id_, timeout=timeout)
        try:
            self._make_ready(id_, access)
        except CoreInfraError as error:
            self._progress(str(error))  # entering must stay possible, to find the cause
        except BaseException:
            access.close()
            raise
        if isinstance(access, AgentAccess):
            access.run_as(run_config(self._registry.find(id_)) if as_image else None, user)
        elif user:
            access.close()
            raise InvalidError(
                f"cannot run commands as {user} in this machine",
                why="only core-infra's agent can do that",
                todo=f"Run: su {user} -c COMMAND",
            )
        return access

    def mount(self, container: Container) -> None:
        """Mount a machine's volumes as soon as it can be entered; it runs on if that fails.

        Raises:
            UnavailableError: the volumes could not be mounted.
        """
        try:
            access = self._open(container.id)
            try:
                self._make_ready(container.id, access)
            finally:
                access.close()
        except CoreInfraError as error:
            raise UnavailableError(
                f"machine {container.name} runs, but without its volumes",
                why=error.what + (f": {error.why}" if error.why else ""),
                todo=error.todo,
            ) from error

    def _open(self, id_: str, *, timeout: float | None = None) -> GuestAccess:
        container = self._registry.running(id_)
        directory = self._registry.directory(container)
        if error := resume_if_possible(container, directory):
            raise error
        if not container.ready:  # its start may have been killed before the guest was resumed
            monitor(directory, "cont")
        kind, access = _first_way(
            container,
            directory,
            timeout=timeout,
            alive=lambda: self._registry.is_running(container),
            progress=self._progress,
        )
        # QEMU's agent often answers before the SSH server, which does more, has its key.
        if kind is Access.SSH and kind is not container.access:
            self._registry.state.update(container.id, access=kind)
        return access

    def _make_ready(self, id_: str, access: GuestAccess) -> None:
        container = self._registry.find(id_)  # the current record: another command may have entered
        # With core-infra's agent, a reboot of the guest ends the machine; a disk comes back.
        if container.ready and (not container.mounts or container.access is Access.AGENT):
            return
        if container.mounts:
            served = volumes.is_served(self._registry.directory(container))
            shares = volumes.shares(container.mounts, by_virtiofs=served)
            volumes.mount(access, shares, container.mounts)
        if not container.ready:
            self._registry.state.update(container.id, ready=True)


def _first_way(
    container: Container,
    directory: MachineDirectory,
    *,
    timeout: float | None,
    alive: Callable[[], bool],
    progress: Callable[[str], None],
) -> tuple[Access, GuestAccess]:
    """A way into a running machine: the recorded one, or the first that opens.

    Args:
        container: its record.
        directory: its directory.
        timeout: seconds for it to boot; None is a default scaled for this host.
        alive: returns whether it still runs.
        progress: called with a line if it has to wait.

    Raises:
        NoAccessError: none opens in time.
    """
    has_agent_only = container.access is Access.AGENT and not directory.socket_path(QGA).exists()
    limit = scaled(BOOT if has_agent_only else FOREIGN_BOOT_TIMEOUT) if timeout is None else timeout
    if has_agent_only:
        sockets = directory.agent_sockets()
        return Access.AGENT, AgentAccess(sockets, boot=limit, patience=limit, progress=progress)
    deadline = time.monotonic() + limit
    while True:
        errors: list[UnavailableError] = []
        for kind, open_way in _ways(container, directory, min(limit, scaled(_TRY)), progress):
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
                todo=f"Read its console: core-infra vm logs {container.name}; or enter by it: "
                f"core-infra vm console {container.name}",
            )
        time.sleep(_PAUSE)


def _ways(
    container: Container,
    directory: MachineDirectory,
    patience: float,
    progress: Callable[[str], None],
) -> list[tuple[Access, Callable[[], GuestAccess]]]:
    def by_agent() -> GuestAccess:
        sockets = directory.agent_sockets()
        return AgentAccess(sockets, boot=patience, patience=patience, progress=progress)

    def by_ssh() -> GuestAccess:
        assert container.ssh_port is not None  # noqa: S101 - checked below
        return SshAccess(
            container.ssh_port,
            user=container.ssh_user,
            key=Path(container.ssh_key).expanduser() if container.ssh_key else directory.key,
            pinned=directory.host_key,
            timeout=patience,
        )

    def by_qga() -> GuestAccess:
        return QgaAccess(directory.socket_path(QGA), timeout=min(patience, 1.0))

    ways: list[tuple[Access, Callable[[], GuestAccess]]] = []
    if container.access is Access.AGENT:
        ways.append((Access.AGENT, by_agent))
    has_key = bool(container.ssh_key) or directory.key.exists()
    if container.ssh_port and has_key:
        ways.append((Access.SSH, by_ssh))
    if container.access is not Access.SSH:
        ways.append((Access.QGA, by_qga))
    return ways
