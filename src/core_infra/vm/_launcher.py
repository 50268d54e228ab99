"""Starts machines, by cloning or by booting, and ends them."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from core_infra.vm._boot import boot_limit
from core_infra.vm._cache import cache_root
from core_infra.vm._cluster_copies import Clusters
from core_infra.vm._hardware import DEFAULT_MEMORY
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._images.load import Request, checked_packages
from core_infra.vm._launcher_networks import Networks, checked_networks
from core_infra.vm._live_machines import LiveMachines
from core_infra.vm._machine_spec import Defaults, MachineOptions, SpecResolver
from core_infra.vm._machine_starter import MachineStarter
from core_infra.vm._prepared_machine import MachinePreparer
from core_infra.vm._run_directory import check_machine_name
from core_infra.vm._snapshots.cloner import Cloner
from core_infra.vm._snapshots.pool import affordable
from core_infra.vm._snapshots.store import SnapshotStore
from core_infra.vm._vmm_launch import FileGoneError
from core_infra.vm._warm.client import WarmHelper

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._cluster import Cluster, PreparedCluster
    from core_infra.vm._hypervisors.hypervisor import Accelerator
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._machine_state import Ending
    from core_infra.vm._network.membership import Memberships
    from core_infra.vm._networks import Network, NetworkAddress
    from core_infra.vm._prepared_machine import PreparedMachine
    from core_infra.vm._run_directory import RunDirectory


class Launcher:
    """Starts machines, and ends all of them when it is closed.

    Args:
        accelerator: "auto" (the best that works here), or a required one: "kvm", "hvf", "tcg".
            If that does not work, the first boot raises UnavailableError.
        image: the image, or its path, of machines that name no other; None: the default image.
        memory: their MiB; None: a default that fits the image.
        cpus: their virtual processors; None: the image's number, or 1.
        cpu: their processor, as QEMU's ``-cpu`` takes it; None: one that suits QEMU and the
            guest's kernel.
        arch: their architecture, ``x86_64`` or ``aarch64``; None: the image's, or this host's.
            A foreign one is emulated.
        network: what they reach; None: ``hermetic``.
        outlive: :meth:`keep` can leave machines running when this process ends. Other machines are
            stopped all the same; but if this process is killed, they run until the next launcher
            on this host sweeps them.
        ready: how many clones of each kind are made before they are asked for; None: as many as
            this host's processors and memory allow.
        processes: how many processes start machines on this host at the same time.
        warm: minutes for which a helper process keeps the sources of clones after this launcher
            is closed, for later ones; 0: none does.
        progress: called with a line now and then while something takes long.
        witness: returns what is at work in this process, for the errors of a machine that was
            ended.
        terminal: within its block, this process's terminal can be used; for ``Machine.shell``.
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
        network: str | None = None,
        outlive: bool = False,
        ready: int | None = None,
        processes: int = 1,
        warm: float = 0,
        progress: Callable[[str], None] | None = None,
        witness: Callable[[Machine], Ending | None] = lambda _machine: None,
        terminal: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.hypervisor = QemuHypervisor()
        say = progress or (lambda _line: None)
        self._live = LiveMachines(outlive=outlive, witness=witness, progress=say, terminal=terminal)
        self._resolver = SpecResolver(
            Defaults(image, memory, cpus, cpu, arch, network),
            require=self.hypervisor.program,
            in_machine=lambda image, work: self._starter.work_in(image, work),  # noqa: PLW0108 - made below
            progress=say,
        )
        self._numbers = itertools.count(1)
        self._networks = Networks(outlive=outlive, make_directory=self._live.internal_directory)
        if ready is None:
            ready = affordable(memory or DEFAULT_MEMORY, processes=processes)
        self._cloner = Cloner(
            self.hypervisor,
            SnapshotStore(cache_root() / "snapshots", progress=say),
            self._live.internal_directory,
            say,
            die_with_parent=not outlive,
            # A machine that may outlive this process must have an owner who ends it.
            ready=0 if outlive else ready,
            warm=WarmHelper(warm) if warm else None,
        )
        self._starter = MachineStarter(
            self.hypervisor,
            self._live,
            self._cloner,
            self._resolver,
            accelerator=accelerator,
            die_with_parent=not outlive,
            progress=say,
        )
        self._preparer = MachinePreparer(self._live, self._cloner, self._starter, say)
        self._clusters = Clusters(self._live, self._networks, self._cloner, self.clone)

    @property
    def run(self) -> RunDirectory:
        """The directory of this launcher's machines, made (and dead runs swept) at first use."""
        return self._live.run

    @property
    def accelerator(self) -> Accelerator:
        """What runs machines with :attr:`image`, and why; may boot one, once per host start."""
        return self._starter.accelerators.for_arch(self.image.arch)

    @property
    def image(self) -> Bootable:
        """The image of machines that name no other; the default image is built if necessary."""
        return self._resolver.image

    def make_image(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        *,
        packages: Sequence[str] = (),
        suite: str | None = None,
        arch: str | None = None,
        refresh: bool = False,
    ) -> Bootable:
        """The image that machines with these arguments boot, made if it is not in the cache.

        It is a value: with its disk, kernel, memory and processor, and without a machine. Give it
        to :meth:`clone`, to a test's marker, or to ``core_vm_factory``. Example::

            image = launcher.make_image("debian:12", packages=["curl"])
            larger = dataclasses.replace(image, memory=1024)

        Args:
            image: the image, its path, or its address, such as ``debian:12`` or ``oci:nginx:1.27``;
                None: the default image, or with *packages* a system of this host's release.
            packages: Debian or Ubuntu packages that it has.
            suite: the release that has them, such as ``trixie`` or ``jammy``.
            arch: its architecture; None: the launcher's, or this host's.
            refresh: ask registries and repositories what is newest; else an image that was made
                before stays as it is.

        Raises:
            NotFoundError: the image, or a package, does not exist.
            InvalidError: the packages do not fit together, or the image cannot have packages.
            CommandFailedError: a package could not be configured; has the output.
            UnavailableError: it cannot be made: there is no network, no key, or no room.
        """
        request = Request(image, arch, checked_packages(packages), suite)
        return self._resolver.make_image(request, refresh=refresh)

    def processor(self, spec: MachineSpec) -> str:
        """What is unusual about a machine's processor, in words; "" if nothing is."""
        return self._starter.processor(spec)

    def spec(
        self,
        name: str,
        image: Bootable | str | os.PathLike[str] | None = None,
        **options: Unpack[MachineOptions],
    ) -> MachineSpec:
        """The specification of a machine with these options and this launcher's defaults.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such disk.
            TypeError: there is no such option.
        """
        return self._resolver.spec(name, image, options)

    def boot(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
        networks: Sequence[Network | NetworkAddress] = (),
        **options: Unpack[MachineOptions],
    ) -> Machine:
        """Boot a machine and return it running.

        Args:
            image: the image or its path; None: the launcher's.
            name: its name within this launcher; None: ``vm1``, ``vm2``, ….
            timeout: seconds until it must answer, if it is booted; None: what fits this host.
            networks: the networks that it has a card on, see :meth:`network`.
            options: ``memory``, ``cpu``, ``disks`` and more: see :class:`MachineOptions`.

        Raises:
            InvalidError: a value is not possible.
            BootError: it did not come up; carries the console's tail and the command.
            UnavailableError: QEMU, or the required accelerator, is not available.
        """
        return self._start(
            self._starter.boot, image, options, name=name, timeout=timeout, networks=networks
        )

    def clone(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
        networks: Sequence[Network | NetworkAddress] = (),
        **options: Unpack[MachineOptions],
    ) -> Machine:
        """Clone a machine that has booted, and return the clone running: a tenth of a second.

        The first machine of its kind on this host is booted, and saved for all that follow. If that
        is not possible, this machine is booted, and *progress* gets the reason, once.

        Arguments and errors are those of :meth:`boot`.
        """
        return self._start(
            self._starter.clone, image, options, name=name, timeout=timeout, networks=networks
        )

    def _start(
        self,
        start: Callable[[MachineSpec, float, Memberships], Machine],
        image: Bootable | str | os.PathLike[str] | None,
        options: MachineOptions,
        *,
        name: str | None,
        timeout: float | None,
        networks: Sequence[Network | NetworkAddress],
    ) -> Machine:
        chosen, wanted = self._name(name), checked_networks(networks)

        def attempt() -> Machine:
            spec = replace(self.spec(chosen, image, **options), cards=len(wanted))
            with self._networks.joining(chosen, wanted) as joined:
                return start(spec, boot_limit(spec.image, timeout), joined)

        try:
            return attempt()
        except FileGoneError:  # files of the cache were removed, which are now made again
            self._resolver.forget()
            return attempt()

    def network(
        self,
        subnet: str | None = None,
        *,
        name: str | None = None,
        outside: bool = False,
        seed: int = 0,
    ) -> Network:
        """A network between machines, which join it by ``networks=[…]`` when they start.

        It needs no privileges, and works on each host where machines run.

        Args:
            subnet: its IPv4 addresses, such as ``10.9.0.0/24``; None: a subnet that no other
                network has.
            name: its name in reports.
            outside: machines on it can reach the world outside, by the host's addresses.
            seed: decides which frames :meth:`Network.link` hits.

        Raises:
            InvalidError: the subnet is not possible.
            UnavailableError: the program that moves frames is missing.
        """
        return self._networks.add(subnet, name=name, outside=outside, seed=seed)

    def prepare_cluster(
        self,
        prepare: Callable[[Cluster], object],
        *,
        on_failure: Callable[[Cluster, BaseException], None] | None = None,
    ) -> PreparedCluster:
        """Prepare machines on networks of their own once, and copy all of them as often as needed.

        All machines are stopped at one moment and then forked, with the frames that are under way
        between them: what runs in them, TCP connections included, notices nothing. Each copy
        has the same names and addresses, on networks of its own.

        Args:
            prepare: called with an empty cluster: adds networks and machines, installs, starts and
                joins them.
            on_failure: called with the cluster and the error of *prepare*, before it is ended.

        Raises:
            CoreInfraError: as :meth:`clone`; or a machine cannot be saved.
            Exception: any exception of *prepare*.
        """
        return self._clusters.prepare(prepare, on_failure)

    def prepare(
        self,
        prepare: Callable[[Machine], object],
        *,
        image: Bootable | str | os.PathLike[str] | None = None,
        cache: str | None = None,
        depends: Iterable[str | os.PathLike[str]] | os.PathLike[str] = (),
        on_failure: Callable[[Machine, BaseException], None] | None = None,
        **options: Unpack[MachineOptions],
    ) -> PreparedMachine:
        """Prepare a machine once, and clone the result as often as needed.

        Args:
            prepare: called with a fresh machine: installs, migrates, seeds, starts servers.
            image: the image or its path; None: the launcher's.
            cache: a key to keep the prepared machine by, for later runs on this host too; None:
                each run prepares it again. It is prepared again when the key, the content of
                *depends*, the image, its options, QEMU, or the code of *prepare* changes, with all
                that this refers to in modules of yours. If that cannot be read, such as that of
                an object with ``__call__``, *progress* gets a line that says so.
            depends: files and directories whose contents count for *cache*.
            on_failure: called with the machine and the error of *prepare*, before it is ended.
            options: ``memory``, ``cpu``, ``disks`` and more: see :class:`MachineOptions`.

        Raises:
            CoreInfraError: as :meth:`clone`; or the machine cannot be saved.
            NotFoundError: a file of *depends* does not exist.
            Exception: any exception of *prepare*.
        """
        spec = self.spec(f"prepared{next(self._numbers)}", image, **options)
        return self._preparer.prepare(
            prepare, spec, self._name, cache=cache, depends=depends, on_failure=on_failure
        )

    def _name(self, name: str | None) -> str:
        if name is None:
            return f"vm{next(self._numbers)}"
        check_machine_name(name)
        return name

    def save_for_clones(
        self,
        image: Bootable | str | os.PathLike[str] | None = None,
        **options: Unpack[MachineOptions],
    ) -> None:
        """Boot and save what :meth:`clone` starts from, unless this host has it already.

        Otherwise the first clone does it. If it fails, *progress* gets the reason. Arguments are
        those of :meth:`boot`, and InvalidError and NotFoundError are raised as by :meth:`spec`.
        """
        self._starter.save_for_clones(self.spec("any", image, **options))

    def leaks(self) -> list[str]:
        """Processes and directories of ended machines that are left: a line for each."""
        return self._live.leaks(self._cloner.pausing)

    def keep(self, machine: Machine, owner: str = "") -> Path:
        """Leave a machine of the test *owner* running; returns its directory, with its sockets.

        Raises:
            WrongStateError: the launcher was made without *outlive*.
        """
        self._networks.stay()
        return self._live.keep(machine, owner)

    def discard(self, machine: Machine, ending: Ending | None = None) -> None:
        """Stop a machine and remove its files; *ending* is for the errors of later calls."""
        self._live.discard(machine, ending)

    def close(self) -> None:
        """Stop every machine and remove the run's directory."""
        self._live.discard_all()
        self._networks.close()
        self._cloner.close()
        self._live.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def starter_of(launcher: Launcher) -> MachineStarter:
    """What starts a launcher's machines, for parts of the library that have a specification."""
    return launcher._starter  # noqa: SLF001 - not for users


def clusters_of(launcher: Launcher) -> Clusters:
    """What saves and copies several machines of a launcher at one moment."""
    return launcher._clusters  # noqa: SLF001 - not for users
