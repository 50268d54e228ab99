"""Which machines there are, as they are."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError, WrongStateError
from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._manager.pause import pause
from core_infra.vm._manager.process_identity import ForeignProcess, is_of_this_boot
from core_infra.vm._manager.record import Container, Status

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from core_infra.vm._manager.state_file import State


MACHINES = "machines"


class Register:
    """The machines that are remembered; what is said to run is looked at each time.

    Wherever a machine is asked for by an id, its name will do, or what only its id begins with.

    Args:
        state: the memory.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def folder(self, container: Container) -> MachineDirectory:
        """The directory of a machine."""
        return MachineDirectory(self.state.directory / MACHINES / container.id)

    def list(self) -> builtins.list[Container]:
        """All machines, the last started first; what runs is looked at, not only remembered.

        A machine that runs and is paused, because this host has no room for what it writes, has
        that as its reason.
        """
        found = map(self._with_pause, self._verified().values())
        return sorted(found, key=lambda one: one.started_at, reverse=True)

    def find(self, id_: str) -> Container:
        """A machine, by its id, its name, or what only its id begins with.

        Raises:
            NotFoundError: there is none.
            InvalidError: there are several.
        """
        known = self._verified()
        by_name = {one.name: one for one in known.values()}
        if found := known.get(id_) or by_name.get(id_):
            return found
        matches = [one for one in known.values() if id_ and one.id.startswith(id_)]
        if len(matches) > 1:
            shown = ", ".join(f"{one.id} ({one.name})" for one in matches)
            raise InvalidError(f"several machines begin with {id_!r}", why=shown)
        if not matches:
            names = ", ".join(sorted(by_name)) or "none"
            raise NotFoundError(f"there is no machine {id_!r}", why=f"there is {names}")
        return matches[0]

    def running(self, id_: str) -> Container:
        """A machine that runs.

        Raises:
            NotFoundError: there is none.
            WrongStateError: it does not run.
        """
        container = self.find(id_)
        if container.status is not Status.RUNNING:
            reason = f": {container.reason}" if container.reason else ""
            raise WrongStateError(
                f"machine {container.name} does not run",
                why=f"it is {container.status}{reason}",
                needed=Status.RUNNING,
                found=container.status,
            )
        return container

    def runs(self, container: Container) -> bool:
        """Whether it runs, at this moment."""
        return self.find(container.id).status is Status.RUNNING

    def _with_pause(self, container: Container) -> Container:
        if container.status is not Status.RUNNING or container.starting:
            return container
        found = pause(container, self.folder(container))
        if found is None:
            return container
        return container.model_copy(update={"reason": f"{found.what}: {found.why}"})

    def _verified(self) -> dict[str, Container]:
        known = self.state.load()
        if not any(verdict(one, self.folder(one)) for one in _runs(known)):
            return known
        # Once more with the lock held: what was read may have been changed meanwhile.
        with self.state.changing() as current:
            for one in _runs(current):
                if changes := verdict(one, self.folder(one)):
                    current[one.id] = one.model_copy(update=changes)
            return dict(current)


def _runs(known: Mapping[str, Container]) -> builtins.list[Container]:
    return [one for one in known.values() if one.status is Status.RUNNING]


def verdict(container: Container, folder: MachineDirectory) -> dict[str, Any]:
    """What is to be remembered of a machine that is remembered as running; nothing if it runs."""
    found = ForeignProcess.find(container.pid, container.start)
    if found is not None:
        found.close()
        return {}
    status, reason = _ending(container, folder)
    gone = {"pid": None, "start": None, "starting": False}
    return {**gone, "status": status, "reason": reason}


def _ending(container: Container, folder: MachineDirectory) -> tuple[Status, str]:
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


def end_leftover(folder: MachineDirectory) -> None:
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
