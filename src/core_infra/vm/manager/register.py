"""Which machines there are, as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError, WrongStateError
from core_infra.vm.manager.container import Container, Status
from core_infra.vm.manager.folder import Folder
from core_infra.vm.manager.pausing import pause
from core_infra.vm.manager.verdict import verdict

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from core_infra.vm.manager.state import State

MACHINES = "machines"


class Register:
    """The machines that are remembered; what is said to run is looked at each time.

    Wherever a machine is asked for by an id, its name will do, or what only its id begins with.

    Args:
        state: the memory.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def folder(self, container: Container) -> Folder:
        """The directory of a machine."""
        return Folder(self.state.directory / MACHINES / container.id)

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
