"""Start machines, by cloning or by booting, in the run's directory; one place for clean-up."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from core_infra._unpatched import shutil, time
from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.vm import _timeouts
from core_infra.vm._boot import BootError, await_agent, boot_limit
from core_infra.vm._cache import cache_root
from core_infra.vm._hardware import DEFAULT_MEMORY, MachineOptions
from core_infra.vm._hypervisors.accelerator import choose, foreign
from core_infra.vm._hypervisors.processor import explanation, processor
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._images.image import host_arch
from core_infra.vm._io_pause import MachinePausedError
from core_infra.vm._leaks import left_behind
from core_infra.vm._machine import Machine
from core_infra.vm._machine_spec import Defaults, SpecResolver
from core_infra.vm._prepared_machine import Prepared
from core_infra.vm._run_directory import INTERNAL, RunDirectory
from core_infra.vm._snapshots.cloner import Cloner
from core_infra.vm._snapshots.fingerprints import contents, fingerprint
from core_infra.vm._snapshots.pool import affordable
from core_infra.vm._snapshots.store import SnapshotStore
from core_infra.vm._vmm_process import FileGoneError, launch

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Accelerator, MachineSpec
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Ending
    from core_infra.vm._snapshots.clone_source import Template
    from core_infra.vm._vmm_process import VmmProcess


T = TypeVar("T")


class Launcher:
    """Starts machines, and ends every one of them when it is closed.

    Args:
        accelerator: "auto" (the best that works here), or one that must be used: "kvm", "hvf",
            "tcg"; UnavailableError at the first boot when it does not work.
        image: what machines boot that ask for no other, or its path; None is the default image.
        memory: their MiB; None is a default that fits the image.
        cpus: their virtual processors; None is one, unless the image says otherwise.
        cpu: their processor, as QEMU's ``-cpu`` takes it; None is one that suits QEMU and the
            guest's kernel.
        arch: their architecture, ``x86_64`` or ``aarch64``; None is the image's, or this host's.
            One that is not this host's is emulated.
        outlive: machines can be left running with :meth:`keep` when this process ends. A machine
            that is not kept is stopped all the same; but if this process is killed, it runs on
            until the next launcher on this host sweeps it.
        ready: how many clones of each kind are made before they are asked for; None is what this
            host's processors and memory allow.
        processes: how many processes start machines on this host at the same time.
        progress: is given a line now and then while something takes long.
        witness: returns who is at work in this process, for the errors of a machine that was ended.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        image: Bootable | str | os.PathLike[str] | None = None,
        memory: int | None = None,
        cpus: int | None = None,
        cpu: str | None = None,
        arch: str | None = None,
        outlive: bool = False,
        ready: int | None = None,
        processes: int = 1,
        progress: Callable[[str], None] | None = None,
        witness: Callable[[Machine], Ending | None] = lambda _machine: None,
    ) -> None:
        self.hypervisor = QemuHypervisor()
        self._requested = accelerator
        self._outlive = outlive
        self._progress = progress or (lambda _line: None)
        self._witness = witness
        self._blueprints = SpecResolver(
            Defaults(image, memory, cpus, cpu, arch),
            require=self.hypervisor.program,
            progress=self._progress,
        )
        self._run: RunDirectory | None = None
        self._machines: list[Machine] = []
        self._kept: set[int] = set()
        self._numbers = itertools.count(1)
        self._accelerator: Accelerator | None = None
        self._cold: set[str] = set()
        # What a preparation itself changes, such as a list that it appends to, is no new code.
        self._changed: dict[str, str] = {}
        if ready is None:
            ready = affordable(memory or DEFAULT_MEMORY, processes=processes)
        self._cloner = Cloner(
            self.hypervisor,
            SnapshotStore(cache_root() / "snapshots", progress=self._progress),
            lambda name: self.run.place(f"{INTERNAL}{name}"),
            self._progress,
            die_with_parent=not outlive,
            # What may outlive us must be somebody's, so that somebody ends it.
            ready=0 if outlive else ready,
        )

    @property
    def run(self) -> RunDirectory:
        """The directory of this launcher's machines, made (and dead runs swept) at first use."""
        if self._run is None:
            self._run = RunDirectory()
        return self._run

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator of machines that boot :attr:`image`, and why it is this one.

        May boot a machine to find out, once per start of the host.
        """
        return self._accelerator_for(self.image.arch)

    @property
    def image(self) -> Bootable:
        """What machines boot that ask for no other; the default image is built if need be."""
        return self._blueprints.image

    def _accelerator_for(self, arch: str) -> Accelerator:
        if arch != host_arch():
            return foreign(self._requested, arch)
        if self._accelerator is None:
            self._accelerator = choose(
                self._requested,
                probe=self._probe,
                # The image counts, too: one that boots nowhere says nothing of the accelerator.
                identity=lambda: f"{self._program} {self._tried}",
                cache_dir=cache_root(),
                progress=self._progress,
            )
        return self._accelerator

    def _accelerator_of(self, spec: MachineSpec) -> str:
        return self._accelerator_for(spec.image.arch).name

    def processor(self, spec: MachineSpec) -> str:
        """What is unusual about a machine's processor, in words; "" if nothing is."""
        how, version = self._accelerator_of(spec), self.hypervisor.version()
        cpu = processor(spec.image.arch, how, spec.cpu)
        chosen = f"-cpu {cpu}" if spec.cpu else ""
        return ", ".join(filter(None, (chosen, explanation(spec.image, cpu, how, version))))

    @property
    def _program(self) -> str:
        return f"{self.hypervisor.name} {self.hypervisor.version()}"

    @functools.cached_property
    def _tried(self) -> Bootable:
        """What is booted to try an accelerator: the default image, where a whole system is used."""
        image = self.image
        if image.arch != host_arch():
            return self._blueprints.default_image()
        if not image.has_agent:
            with contextlib.suppress(CoreInfraError):
                return self._blueprints.default_image()
        return image

    def spec(
        self,
        name: str,
        image: Bootable | str | os.PathLike[str] | None = None,
        **sizes: Unpack[MachineOptions],
    ) -> MachineSpec:
        """What a machine will be made of, with this launcher's defaults.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such disk.
            TypeError: there is no such size.
        """
        return self._blueprints.spec(name, image, sizes)

    def boot(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
        **sizes: Unpack[MachineOptions],
    ) -> Machine:
        """Boot a machine and return it running.

        Args:
            image: what to boot, or its path; None is the launcher's image.
            name: its name within this launcher; None numbers them: ``vm1``, ``vm2``, ….
            timeout: seconds until it must answer; None is a default that fits this host.
            sizes: ``memory``, ``cpu``, ``disks`` and more: see
                :class:`~core_infra.vm._hardware.MachineOptions`.

        Raises:
            InvalidError: a value is not possible.
            BootError: it did not come up; carries the console's tail and the command.
            UnavailableError: QEMU, or the accelerator asked for, is not available.
        """
        name = self._name(name)

        def start() -> Machine:
            spec = self.spec(name, image, **sizes)
            return self._boot(spec, self._accelerator_of(spec), boot_limit(spec.image, timeout))

        return self._with_files(start)

    def clone(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
        **sizes: Unpack[MachineOptions],
    ) -> Machine:
        """Clone a machine that has booted, and return the clone running: a tenth of a second.

        The first machine of its kind on this host is booted, and saved for all that follow. Where
        that is not possible, this machine is booted; the reason is told once.

        Args:
            image: what the machine has booted, or its path; None is the launcher's image.
            name: its name within this launcher; None numbers them: ``vm1``, ``vm2``, ….
            timeout: seconds that it may take where it is booted.
            sizes: ``memory``, ``cpu``, ``disks`` and more: see
                :class:`~core_infra.vm._hardware.MachineOptions`.

        Raises:
            InvalidError: a value is not possible.
            BootError: it did not come up; carries the console's tail and the command.
            UnavailableError: QEMU, or the accelerator asked for, is not available.
        """
        name = self._name(name)

        def start() -> Machine:
            spec = self.spec(name, image, **sizes)
            return self._clone(spec, boot_limit(spec.image, timeout))

        return self._with_files(start)

    def _with_files(self, start: Callable[[], T]) -> T:
        """Start something; once more if files of the cache were removed, which are made anew."""
        try:
            return start()
        except FileGoneError:
            self._blueprints.forget()
            return start()

    def _clone(self, spec: MachineSpec, limit: float) -> Machine:
        try:
            template = self._cloner.template(spec, self._accelerator_of(spec))
            return self._cloned(spec, template)
        except (BootError, MachinePausedError, FileGoneError):
            raise  # what does not boot for a snapshot does not boot for this
        except CoreInfraError as error:
            self._tell_cold(error)
        return self._boot(spec, self._accelerator_of(spec), limit)

    def prepare(
        self,
        prepare: Callable[[Machine], object],
        *,
        image: Bootable | str | os.PathLike[str] | None = None,
        cache: str | None = None,
        depends: Iterable[str | os.PathLike[str]] | os.PathLike[str] = (),
        on_failure: Callable[[Machine, BaseException], None] | None = None,
        **sizes: Unpack[MachineOptions],
    ) -> Prepared:
        """Prepare a machine once, and clone what came of it as often as needed.

        Args:
            prepare: is given a fresh machine: installs, migrates, seeds, starts servers.
            image: what the machine has booted, or its path; None is the launcher's image.
            cache: a word to keep the prepared machine by, for later runs on this host too. It is
                prepared again when the word, the code of *prepare*, what *depends* names, the
                image, its sizes or QEMU change. The code is that of *prepare* and of all that it
                refers to in modules of yours, with its constants. If it cannot be read, such as an
                object's that can be called, *progress* is given a line that says so. None prepares
                the machine anew in each run.
            depends: files and directories whose contents count for *cache*.
            on_failure: is given the machine and the error if *prepare* raises, before the machine
                is ended.
            sizes: ``memory``, ``cpu``, ``disks`` and more: see
                :class:`~core_infra.vm._hardware.MachineOptions`.

        Raises:
            CoreInfraError: as :meth:`clone`; or the machine cannot be saved.
            NotFoundError: a file that it depends on is not there.
            Exception: whatever *prepare* raises.
        """
        spec = self.spec(f"prepared{next(self._numbers)}", image, **sizes)
        code = None if cache is None else self._code(prepare, cache)

        def make() -> VmmProcess:
            machine = self._clone(spec, boot_limit(spec.image))
            try:
                prepare(machine)
                if code is not None and (changed := fingerprint(prepare)) is not None:
                    self._changed[changed] = code
                instance = machine.instance
            except BaseException as error:
                if on_failure is not None:
                    on_failure(machine, error)
                self.discard(machine)
                raise
            self._machines.remove(machine)
            return instance

        kept_by = () if cache is None else (cache, code or "", contents(depends))
        template = self._cloner.prepared(spec, self._accelerator_of(spec), make, kept_by)
        shutil.rmtree(self.run.path / spec.name, ignore_errors=True)
        return Prepared(
            self._cloner,
            template,
            lambda name: self._cloned(dataclasses.replace(spec, name=self._name(name)), template),
        )

    def _code(self, prepare: Callable[[Machine], object], cache: str) -> str | None:
        """The digest of the code that prepares a machine; None if it cannot be read."""
        found = fingerprint(prepare)
        if found is None:
            self._progress(
                f"the code of {prepare!r} cannot be read: what it prepares is kept by "
                f"cache={cache!r} alone, and must get another word when it is edited"
            )
            return None
        return self._changed.get(found, found)

    def _cloned(self, spec: MachineSpec, template: Template) -> Machine:
        with self.run.machine(spec.name) as directory:
            started = time.monotonic()
            instance, info = self._cloner.start(template, directory, spec.name)
            machine = Machine(spec, instance, self._cloner, template)
        return self._running(machine, started, info)

    def save_for_clones(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        **sizes: Unpack[MachineOptions],
    ) -> None:
        """Boot and save what :meth:`clone` starts from, if that has not been done on this host.

        It would be done by the first clone otherwise. If it cannot be done, *progress* is given
        the reason.

        Args:
            image: what the machine boots, or its path; None is the launcher's image.
            sizes: ``memory``, ``cpu``, ``disks`` and more: see
                :class:`~core_infra.vm._hardware.MachineOptions`.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such image or disk.
        """
        spec = self.spec("any", image, **sizes)
        try:
            self._cloner.prepare(spec, self._accelerator_of(spec))
        except CoreInfraError as error:
            self._tell_cold(error)

    def leaks(self) -> list[str]:
        """What of this launcher's machines is left though nobody holds it: a line for each."""
        if self._run is None:
            return []
        held = {machine.directory.name for machine in self._machines}
        found = left_behind(self._run.path, held, self._kept)
        if found:
            with self._cloner.pausing():  # what was just being made is accounted for now
                found = left_behind(self._run.path, held, self._kept)
        return found

    def keep(self, machine: Machine, owner: str = "") -> Path:
        """Leave a machine running; its directory, with the sockets to reach it, from now on.

        Args:
            machine: which one.
            owner: whose it was, for ``core-infra vm ps``.

        Raises:
            WrongStateError: the launcher was made without *outlive*.
        """
        if not self._outlive:
            raise WrongStateError(
                f"cannot keep machine {machine.name}",
                why="its launcher does not let machines outlive it",
                needed="outlive=True",
                found="outlive=False",
            )
        machine.detach()
        self._machines.remove(machine)
        self._kept.add(machine.pid)
        spec = machine.spec
        facts = {"image": spec.image.name, "memory": spec.memory, "cpus": spec.cpus}
        return self.run.keep(machine.directory, owner=owner, **facts)

    def discard(self, machine: Machine, ending: Ending | None = None) -> None:
        """Stop a machine and remove its files; *ending* as for :meth:`Machine.stop`."""
        machine.stop(ending)
        if machine in self._machines:
            self._machines.remove(machine)
            shutil.rmtree(machine.directory, ignore_errors=True)

    def close(self) -> None:
        """Stop every machine and remove the run's directory."""
        for machine in list(self._machines):
            self.discard(machine)
        self._cloner.close()
        if self._run is not None:
            self._run.close()
            self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _boot(self, spec: MachineSpec, accelerator: str, limit: float) -> Machine:
        with self.run.machine(spec.name) as directory:
            started = time.monotonic()
            instance = launch(
                self.hypervisor,
                spec,
                accelerator,
                directory,
                die_with_parent=not self._outlive,
            )
            try:
                info = await_agent(instance, spec, limit).info
            except BaseException:
                instance.end()
                raise
            machine = Machine(spec, instance, self._cloner)
        _timeouts.record_boot(time.monotonic() - started)
        return self._running(machine, started, info)

    def _running(self, machine: Machine, started: float, info: Mapping[str, str]) -> Machine:
        machine.witness = self._witness
        machine.running(time.monotonic() - started, info)
        machine.on_pause(self._progress)
        self._machines.append(machine)
        return machine

    def _name(self, name: str | None) -> str:
        return f"vm{next(self._numbers)}" if name is None else name

    def _tell_cold(self, error: CoreInfraError) -> None:
        if str(error) not in self._cold:
            self._cold.add(str(error))
            self._progress(f"machines are booted and not cloned: {error}")

    def _probe(self, accelerator: str, limit: float) -> str | None:
        """Boot a machine with *accelerator*; None if it works, else why it does not."""
        try:
            spec = self.spec(f"probe-{accelerator}", self._tried)
            limit = limit if spec.image.has_agent else boot_limit(spec.image)
            machine = self._boot(spec, accelerator, limit)
        except BootError as error:
            return error.why.splitlines()[0]
        self.discard(machine)
        return None
