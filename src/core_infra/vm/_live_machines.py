"""The machines of a launcher while they live: their directory, their owner, their end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from core_infra._unpatched import shutil, time
from core_infra.errors import InvalidError, WrongStateError
from core_infra.vm._images.image import Image
from core_infra.vm._machine import Machine
from core_infra.vm._machine_state import MachineStateError
from core_infra.vm._run_directory import INTERNAL, RunDirectory, left_behind
from core_infra.vm._vmm_process import running_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._machine_lifecycle import MachineLifecycle
    from core_infra.vm._machine_state import Ending
    from core_infra.vm._vmm_process import VmmProcess


class LiveMachines:
    """The machines that a launcher has started and that have not been discarded.

    Args:
        outlive: machines can be kept when this process ends.
        witness: returns what is at work in this process, for the errors of an ended machine.
        progress: called with a line when a machine is paused or resumes.
        terminal: within its block, this process's terminal can be used.
    """

    def __init__(
        self,
        *,
        outlive: bool,
        witness: Callable[[Machine], Ending | None],
        progress: Callable[[str], None],
        terminal: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._terminal = terminal
        self._outlive = outlive
        self._witness = witness
        self._progress = progress
        self._run: RunDirectory | None = None
        self._machines: dict[Machine, MachineLifecycle] = {}
        self._kept: set[int] = set()

    @property
    def run(self) -> RunDirectory:
        """The directory of the machines, made (and dead runs swept) at first use."""
        if self._run is None:
            self._run = RunDirectory()
        return self._run

    def internal_directory(self, name: str) -> Path:
        """A new directory for files that belong to no machine of the test."""
        return self.run.new_directory(f"{INTERNAL}{name}")

    def add(self, lifecycle: MachineLifecycle, started: float, info: Mapping[str, str]) -> Machine:
        """A machine whose agent has answered.

        Args:
            lifecycle: the machine.
            started: when it was started, on ``time.monotonic``.
            info: what the agent reports of the guest.
        """
        machine = Machine(lifecycle)
        lifecycle.witness = lambda: self._witness(machine)
        lifecycle.started(time.monotonic() - started, info)
        lifecycle.on_pause(self._progress)
        lifecycle.terminal = self._terminal
        self._machines[machine] = lifecycle
        return machine

    def lifecycle_of(self, machine: Machine) -> MachineLifecycle:
        """The lifecycle of a machine that was not discarded; MachineStateError otherwise."""
        lifecycle = self._machines.get(machine)
        if lifecycle is None:
            raise MachineStateError(
                f"machine {machine.name} was stopped",
                why="this needs one that is running",
                needed="running",
                found=machine.status.value,
            )
        return lifecycle

    def take_process(self, machine: Machine) -> VmmProcess:
        """The VMM process of a machine, which the caller owns from now on."""
        process = self._machines[machine].process
        del self._machines[machine]
        return process

    def keep(self, machine: Machine, owner: str) -> Path:
        """See :meth:`core_infra.vm.Launcher.keep`."""
        _check_machine(machine)
        if not self._outlive:
            raise WrongStateError(
                f"cannot keep machine {machine.name}",
                why="its launcher does not let machines outlive it",
                needed="outlive=True",
                found="outlive=False",
            )
        self.lifecycle_of(machine).detach()
        del self._machines[machine]
        self._kept.add(machine.pid)
        spec = machine.spec
        run = spec.image.run if isinstance(spec.image, Image) else None
        facts = {
            "image": spec.image.name,
            "memory": spec.memory,
            "cpus": spec.cpus,
            "run": None if run is None else dataclasses.asdict(run),
        }
        return self.run.keep(machine.directory, owner=owner, **facts)

    def discard(self, machine: Machine, ending: Ending | None = None) -> None:
        """See :meth:`core_infra.vm.Launcher.discard`."""
        _check_machine(machine)
        lifecycle = self._machines.get(machine)
        if lifecycle is None:
            machine.stop()
            return
        lifecycle.stop(ending)
        del self._machines[machine]
        shutil.rmtree(machine.directory, ignore_errors=True)

    def leaks(self, pausing: Callable[[], AbstractContextManager[object]]) -> list[str]:
        """Processes and directories of ended machines that are left: a line for each.

        Args:
            pausing: while its result is held, no clone is made in the background.
        """
        if self._run is None:
            return []
        held = {machine.directory.name for machine in self._machines}
        found = left_behind(self._run.path, held, running_processes() - self._kept)
        if found:
            with pausing():  # a clone that was just being made is recorded now
                found = left_behind(self._run.path, held, running_processes() - self._kept)
        return found

    def discard_all(self) -> None:
        """Stop every machine."""
        for machine in list(self._machines):
            self.discard(machine)

    def close(self) -> None:
        """Remove the directory."""
        if self._run is not None:
            self._run.close()
            self._run = None


def _check_machine(machine: object) -> None:
    if not isinstance(machine, Machine):
        raise InvalidError(f"cannot use {machine!r} as a machine", why="it is not one")
