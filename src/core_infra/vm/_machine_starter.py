"""From a machine's specification to the running machine: by a clone, or by a cold boot."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._boot import BootError, await_agent, boot_limit
from core_infra.vm._hardware import VIRTUAL
from core_infra.vm._hypervisors.accelerator import AcceleratorSelector
from core_infra.vm._hypervisors.processor import explanation, processor
from core_infra.vm._io_pause import MachinePausedError
from core_infra.vm._machine_lifecycle import MachineLifecycle
from core_infra.vm._network.membership import Memberships
from core_infra.vm._vmm_launch import FileGoneError, launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._images.image import Bootable, Image
    from core_infra.vm._live_machines import LiveMachines
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineSpec, SpecResolver
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._snapshots.cloner import Cloner


class MachineStarter:
    """Starts the machines of a launcher.

    Args:
        hypervisor: what runs them.
        live: gets each machine that runs.
        cloner: clones them.
        resolver: has the images that can be booted to try an accelerator.
        accelerator: the requested one, or "auto".
        die_with_parent: they end when this process does, however that ends.
        progress: called with a line when something takes long.

    Attributes:
        accelerators: selects what executes their instructions.
    """

    def __init__(
        self,
        hypervisor: DisposableHypervisor,
        live: LiveMachines,
        cloner: Cloner,
        resolver: SpecResolver,
        *,
        accelerator: str,
        die_with_parent: bool,
        progress: Callable[[str], None],
    ) -> None:
        self._hypervisor = hypervisor
        self._live = live
        self._cloner = cloner
        self._resolver = resolver
        self._die_with_parent = die_with_parent
        self._progress = progress
        self.accelerators = AcceleratorSelector(
            accelerator, hypervisor, resolver, self._probe, progress
        )
        self._reported: set[str] = set()
        self._numbers = itertools.count(1)

    def accelerator_of(self, spec: MachineSpec) -> str:
        """The name of the accelerator that a machine runs with."""
        if spec.time == VIRTUAL:
            return self.accelerators.emulation(spec.image.arch).name
        return self.accelerators.for_arch(spec.image.arch).name

    def processor(self, spec: MachineSpec) -> str:
        """What is unusual about a machine's processor, in words; "" if nothing is."""
        how, version = self.accelerator_of(spec), self._hypervisor.version()
        cpu = processor(spec.image.arch, how, spec.cpu)
        chosen = f"-cpu {cpu}" if spec.cpu else ""
        return ", ".join(filter(None, (chosen, explanation(spec.image, cpu, how, version))))

    def clone(
        self, spec: MachineSpec, limit: float, networks: Memberships | None = None
    ) -> Machine:
        """A clone of a machine that has booted; if it cannot be cloned, the machine, booted.

        Args:
            spec: what it is made of.
            limit: seconds until it must answer if it is booted.
            networks: its cards on networks of the run.

        Raises:
            CoreInfraError: it did not come up.
        """
        try:
            source = self._cloner.source(spec, self.accelerator_of(spec))
            return self.clone_of(source, spec, networks)
        except (BootError, MachinePausedError, FileGoneError):
            raise  # a boot would fail in the same way
        except CoreInfraError as error:
            self._report_cold(error)
        return self.boot(spec, limit, networks)

    def clone_of(
        self, source: CloneSource, spec: MachineSpec, networks: Memberships | None = None
    ) -> Machine:
        """A clone from a source that the caller has.

        Raises:
            CoreInfraError: it cannot be cloned.
        """
        joined = networks or Memberships()
        with self._live.run.machine(spec.name) as directory:
            started = time.monotonic()
            process, info = self._cloner.start(source, directory, spec.name, joined.payload())
            joined.connect(process)
            lifecycle = MachineLifecycle(spec, process, self._cloner, source, joined)
        return self._live.add(lifecycle, started, info)

    def boot(
        self,
        spec: MachineSpec,
        limit: float,
        networks: Memberships | None = None,
        *,
        accelerator: str | None = None,
    ) -> Machine:
        """A machine, booted cold.

        Args:
            spec: what it is made of.
            limit: seconds until it must answer.
            networks: its cards on networks of the run.
            accelerator: what executes its instructions; None: the best that works here.

        Raises:
            CoreInfraError: it did not come up.
        """
        joined = networks or Memberships()
        accelerator = accelerator or self.accelerator_of(spec)
        with self._live.run.machine(spec.name) as directory:
            started = time.monotonic()
            process = launch(
                self._hypervisor,
                spec,
                accelerator,
                directory,
                die_with_parent=self._die_with_parent,
            )
            try:
                info = await_agent(process, spec, limit).info
                joined.connect(process)
                joined.set_up(process.agent)
            except BaseException:
                process.end()
                raise
            lifecycle = MachineLifecycle(spec, process, self._cloner, networks=joined)
        timeouts.record_boot(time.monotonic() - started)
        return self._live.add(lifecycle, started, info)

    def work_in(self, image: Image, work: Callable[[Machine], None]) -> None:
        """Boot an image that is being made, call *work* with the machine, and end it."""
        name = f"making{next(self._numbers)}"
        spec = self._resolver.spec(name, image, {"memory": image.memory, "cpus": 1})
        machine = self.boot(spec, boot_limit(spec.image))
        try:
            work(machine)
        finally:
            self._live.discard(machine)

    def save_for_clones(self, spec: MachineSpec) -> None:
        """Boot and save what such machines are cloned from, unless this host has it already."""
        try:
            self._cloner.ensure_snapshot(spec, self.accelerator_of(spec))
        except CoreInfraError as error:
            self._report_cold(error)

    def _report_cold(self, error: CoreInfraError) -> None:
        if error.what not in self._reported:  # the rest may say how much room there is now
            self._reported.add(error.what)
            self._progress(f"machines are booted and not cloned: {error}")

    def _probe(self, image: Bootable, accelerator: str, limit: float) -> str | None:
        """Boot a machine with *accelerator*; None if it works, else why it does not."""
        try:
            spec = self._resolver.spec(f"probe-{accelerator}", image, {})
            limit = limit if spec.image.has_agent else boot_limit(spec.image)
            machine = self.boot(spec, limit, accelerator=accelerator)
        except BootError as error:
            return error.why.splitlines()[0]
        self._live.discard(machine)
        return None
