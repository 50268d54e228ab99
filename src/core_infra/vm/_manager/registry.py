"""All machines, with their current status."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError, WrongStateError
from core_infra.vm._hardware import memory_advice
from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._manager.pause import resume_if_possible
from core_infra.vm._manager.process_identity import ForeignProcess, is_of_this_boot
from core_infra.vm._manager.record import Container, ContainerStatus

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from core_infra.vm._manager.state_file import State


MACHINES = "machines"


class Registry:
    """The machines of a state file, with their current status.

    A machine is identified by its id, a unique prefix of its id, or its name.

    Args:
        state: the state file.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def directory(self, container: Container) -> MachineDirectory:
        """The directory of a machine."""
        return MachineDirectory(self.state.directory / MACHINES / container.id)

    def list(self) -> builtins.list[Container]:
        """All machines, the last started one first, with their current status.

        The reason of a running machine that is paused, because this host's disk is full, says so.
        """
        found = map(self._with_pause, self._verified().values())
        return sorted(found, key=lambda one: one.started_at, reverse=True)

    def find(self, id_: str) -> Container:
        """The machine with this id or name, or else whose id alone begins so.

        Raises:
            NotFoundError: no machine matches.
            InvalidError: several machines match; or it is not a text.
        """
        if not isinstance(id_, str):
            raise InvalidError(f"cannot look for a machine {id_!r}", todo="Give its id or name.")
        known = self._verified()
        by_name = {one.name: one for one in known.values()}
        if found := known.get(id_) or by_name.get(id_):
            return found
        matches = [one for one in known.values() if id_ and one.id.startswith(id_)]
        if len(matches) > 1:
            shown = ", ".join(f"{one.id} ({one.name})" for one in matches)
            raise InvalidError(f"the ids of several machines begin with {id_!r}", why=shown)
        if not matches:
            names = ", ".join(sorted(by_name)) or "none"
            raise NotFoundError(f"there is no machine {id_!r}", why=f"known machines: {names}")
        return matches[0]

    def running(self, id_: str) -> Container:
        """The machine with this id or name, if it is running.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
        """
        container = self.find(id_)
        if container.status is not ContainerStatus.RUNNING:
            reason = f": {container.reason}" if container.reason else ""
            raise WrongStateError(
                f"machine {container.name} is not running",
                why=f"it is {container.status}{reason}",
                todo=memory_advice(container.reason, container.memory),
                needed=ContainerStatus.RUNNING,
                found=container.status,
            )
        return container

    def is_running(self, container: Container) -> bool:
        """Whether a machine is running now."""
        return self.find(container.id).status is ContainerStatus.RUNNING

    def _with_pause(self, container: Container) -> Container:
        if container.status is not ContainerStatus.RUNNING or container.starting:
            return container
        found = resume_if_possible(container, self.directory(container))
        if found is None:
            return container
        return container.model_copy(update={"reason": f"{found.what}: {found.why}"})

    def _verified(self) -> dict[str, Container]:
        known = self.state.load()
        if not any(_changes(one, self.directory(one)) for one in _running(known)):
            return known
        # Again with the lock held: another process may have changed the file meanwhile.
        with self.state.changing() as current:
            for one in _running(current):
                if changes := _changes(one, self.directory(one)):
                    current[one.id] = one.model_copy(update=changes)
            return dict(current)


def _running(known: Mapping[str, Container]) -> builtins.list[Container]:
    return [one for one in known.values() if one.status is ContainerStatus.RUNNING]


def _changes(container: Container, directory: MachineDirectory) -> dict[str, Any]:
    """The changes to the record of a machine that is no longer running; empty if it runs."""
    found = ForeignProcess.find(container.pid, container.start)
    if found is not None:
        found.close()
        return {}
    status, reason = _ending(container, directory)
    gone = {"pid": None, "start": None, "starting": False}
    return {**gone, "status": status, "reason": reason}


def _ending(container: Container, directory: MachineDirectory) -> tuple[ContainerStatus, str]:
    if container.starting:
        end_unrecorded(directory)
        return ContainerStatus.ERROR, "the process that started it was ended before it ran"
    if panic := directory.panic(container.log_from):
        return ContainerStatus.ERROR, panic
    if container.start and not is_of_this_boot(container.start):
        return ContainerStatus.STOPPED, "this host was restarted"
    if directory.pid() is None:
        return ContainerStatus.STOPPED, "it ended by itself"
    last = directory.last_log_lines()
    return ContainerStatus.ERROR, f"its process was killed, or crashed{': ' if last else ''}{last}"


def end_unrecorded(directory: MachineDirectory) -> None:
    """End a hypervisor that was started for a machine but not recorded."""
    pid = directory.pid()
    if pid is None:
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(directory.path) in command:  # not another process with its pid
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
