"""Runs, starts, stops and removes the machines of a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import WrongStateError
from core_infra.vm._hypervisors.detect import detect_hypervisor, get_hypervisor
from core_infra.vm._manager.console import Foreground
from core_infra.vm._manager.launch_record import load_settings, new_record, restarted_record
from core_infra.vm._manager.process_identity import ForeignProcess
from core_infra.vm._manager.record import ContainerStatus
from core_infra.vm._manager.registry import end_unrecorded
from core_infra.vm._manager.run_options import check_options, choose_accelerator
from core_infra.vm._manager.start import Starter
from core_infra.vm._manager.stop import GRACE, power_cut, power_off, stop_machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._manager.enter import MachineAccess
    from core_infra.vm._manager.record import Container
    from core_infra.vm._manager.registry import Registry
    from core_infra.vm._manager.run_options import RunOptions
    from core_infra.vm._manager.start import Started


class Lifecycle:
    """Runs, starts, stops and removes machines. A failed start leaves the records as they were.

    Args:
        registry: the machines.
        access: mounts the volumes of a machine that has started.
        progress: called with a line about slow steps and restrictions.
    """

    def __init__(
        self, registry: Registry, access: MachineAccess, progress: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._state = registry.state
        self._access = access
        self._progress = progress

    def run(
        self, image: Bootable, shown: str, options: RunOptions, *, adds_agent: bool = False
    ) -> Container:
        """Run a new machine; return when it has ended, or at once if it is detached.

        Args:
            image: the image that it boots.
            shown: the image, as it was given by the user.
            options: how it is run.
            adds_agent: put the agent into the image, which starts it as LinuxKit's init does.
        """
        check_options(options, image)
        hypervisor = (
            get_hypervisor(options.hypervisor) if options.hypervisor else detect_hypervisor()
        )
        accelerator = choose_accelerator(
            hypervisor, options.accelerator, image.arch, self._progress
        )
        container = new_record(
            image,
            shown,
            options,
            adds_agent=adds_agent,
            hypervisor=hypervisor.name,
            accelerator=accelerator,
        )
        self._state.add(container)
        directory = self._registry.directory(container)
        try:
            directory.make()
            started = self._launch(container, image, options)
        except BaseException:
            self._end(container)
            directory.remove()
            self._state.remove(container.id)
            raise
        if started.console is not None:
            self._foreground(container, started)
        elif started.shares:
            self._access.mount(container)
        return self._registry.find(container.id)

    def start(self, before: Container) -> Container:
        """See :meth:`~.manager.LinuxKitManager.start`."""
        directory = self._registry.directory(before)
        if before.status is not ContainerStatus.RUNNING:
            end_unrecorded(directory)
            image, options = load_settings(before, directory, self._progress)
        with self._state.changing() as known:
            if known[before.id].status is ContainerStatus.RUNNING:
                raise WrongStateError(
                    f"machine {before.name} is already running",
                    todo=f"To start it again: core-infra vm restart {before.name}",
                    needed=ContainerStatus.STOPPED,
                    found=ContainerStatus.RUNNING,
                )
            container = known[before.id] = restarted_record(before, image, directory)
        try:
            started = self._launch(container, image, options)
        except BaseException:
            self._end(container)
            with self._state.changing() as known:
                known[before.id] = before
            raise
        if started.shares:
            self._access.mount(container)
        return self._registry.find(container.id)

    def stop(self, container: Container, *, grace: float) -> Container:
        """Stop a running machine; see :meth:`~.manager.LinuxKitManager.stop`."""
        directory = self._registry.directory(container)
        return self._end_by(
            container, lambda process: stop_machine(process, container, directory, grace=grace)
        )

    def power_off(self, container: Container, *, timeout: float) -> Container:
        """See :meth:`~.manager.LinuxKitManager.power_off`."""
        directory = self._registry.directory(container)
        return self._end_by(
            container, lambda process: power_off(process, container, directory, timeout=timeout)
        )

    def power_cut(self, container: Container) -> Container:
        """See :meth:`~.manager.LinuxKitManager.power_cut`."""
        return self._end_by(container, power_cut)

    def remove(self, container: Container, *, force: bool) -> Container:
        """See :meth:`~.manager.LinuxKitManager.remove`."""
        if container.status is ContainerStatus.RUNNING:
            if not force:
                raise WrongStateError(
                    f"cannot remove machine {container.name}",
                    why="it is running",
                    todo=f"Stop it first (core-infra vm stop {container.name}), or use --force.",
                    needed=ContainerStatus.STOPPED,
                    found=ContainerStatus.RUNNING,
                )
            self.stop(container, grace=0)
        directory = self._registry.directory(container)
        end_unrecorded(directory)
        directory.remove()
        return self._state.remove(container.id)

    def _end_by(self, container: Container, end: Callable[[ForeignProcess], str]) -> Container:
        process = ForeignProcess.find(container.pid, container.start)
        if process is None:
            return self._registry.find(container.id)
        with process:
            how = end(process)
        changes = {"status": ContainerStatus.STOPPED, "reason": how, "pid": None, "start": None}
        return self._state.update(container.id, **changes)

    def _launch(self, container: Container, image: Bootable, options: RunOptions) -> Started:
        starter = Starter(
            container,
            image,
            self._registry.directory(container),
            hypervisor=get_hypervisor(container.hypervisor),
            accelerator=container.accelerator,
            options=options,
            progress=self._progress,
        )
        return starter.start(lambda facts: self._state.update(container.id, **facts))

    def _end(self, container: Container) -> None:
        """End the processes of a failed start."""
        directory = self._registry.directory(container)
        current = self._state.load().get(container.id, container)
        process = ForeignProcess.find(current.pid, current.start)
        if process is not None:
            with process:
                if not current.starting:
                    stop_machine(process, current, directory, grace=0)
        end_unrecorded(directory)

    def _foreground(self, container: Container, started: Started) -> None:
        mount = (lambda: self._access.mount(container)) if started.shares else None
        assert started.console is not None  # noqa: S101 - checked by the caller
        has_ended = False
        try:
            with self._access.watch(container.id):
                has_ended = Foreground(started.console, mount, self._progress).run()
        finally:  # also after SIGTERM
            if has_ended:
                started.child.wait(GRACE)  # its console closes a moment before it ends
            elif self._registry.is_running(container):
                self.stop(self._registry.find(container.id), grace=GRACE)
