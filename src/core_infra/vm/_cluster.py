"""Several machines on networks of their own, copied whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, Unpack

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, WrongStateError
from core_infra.vm._names import is_plain_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineOptions
    from core_infra.vm._networks import Network, NetworkAddress


class ClusterStarter(Protocol):
    """What starts the machines of a cluster, and saves all of them together."""

    def add_machine(
        self,
        cluster: Cluster,
        name: str,
        networks: Sequence[Network | NetworkAddress],
        image: Bootable | str | os.PathLike[str] | None,
        options: MachineOptions,
    ) -> Machine:
        """Start a machine."""

    def add_network(
        self, subnet: str | None, *, name: str | None, outside: bool, seed: int
    ) -> Network:
        """Make a network."""

    def snapshot(self, cluster: Cluster, name: str) -> None:
        """Save all machines."""

    def revert(self, cluster: Cluster, name: str | None) -> None:
        """Return all machines to an earlier state."""

    def stop(self, cluster: Cluster) -> None:
        """End everything."""


class Cluster:
    """Machines on networks of their own.

    A function that prepares a cluster gets an empty one, and adds networks and machines to it. Each
    copy has all of them, as they were at the end of the preparation, with their names and
    addresses, and with the connections between them::

        def prepare(cluster):
            cluster.add_network()
            for name in ("a", "b", "c"):
                cluster.add_machine(name).exec("start-the-store", check=True)

        prepared = launcher.prepare_cluster(prepare)
        with prepared.copy() as cluster, cluster.network.isolate("a"):
            cluster["b"].exec(...)

    Attributes:
        name: in reports: its machines are named ``a@NAME``.
    """

    def __init__(self, name: str, starter: ClusterStarter) -> None:
        self.name = name
        self._starter = starter
        self._machines: dict[str, Machine] = {}
        self._networks: dict[str, Network] = {}
        self._is_stopped = False

    def add_network(
        self,
        subnet: str | None = None,
        *,
        name: str | None = None,
        outside: bool = False,
        seed: int = 0,
    ) -> Network:
        """A network of the cluster; the arguments are those of :meth:`Launcher.network`.

        Raises:
            AlreadyExistsError: it has a network of that name.
            InvalidError: the subnet is not possible.
        """
        self._require_running()
        name = f"net{len(self._networks) + 1}" if name is None else name
        if name in self._networks:
            raise AlreadyExistsError(f"the cluster has a network {name!r} already")
        network = self._starter.add_network(subnet, name=name, outside=outside, seed=seed)
        self._networks[name] = network
        return network

    def add_machine(
        self,
        name: str,
        *,
        networks: Sequence[Network | NetworkAddress] | None = None,
        image: Bootable | str | os.PathLike[str] | None = None,
        **options: Unpack[MachineOptions],
    ) -> Machine:
        """Start a machine of the cluster.

        Args:
            name: its name in the cluster, which is also its host name.
            networks: the networks that it has a card on; None: all of the cluster's.
            image: the image or its path; None: the launcher's.
            options: ``memory``, ``cpu``, ``disks`` and more: see :class:`MachineOptions`.

        Raises:
            AlreadyExistsError: it has a machine of that name.
            WrongStateError: it was stopped.
            CoreInfraError: as :meth:`Launcher.clone`.
        """
        self._require_running()
        if not is_plain_name(name):
            raise InvalidError(
                f"cannot name a machine of a cluster {name!r}", todo="Use letters, digits, dashes."
            )
        if name in self._machines:
            raise AlreadyExistsError(f"the cluster has a machine {name!r} already")
        chosen = list(self._networks.values()) if networks is None else networks
        machine = self._starter.add_machine(self, name, chosen, image, options)
        self._machines[name] = machine
        return machine

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The machines by their names."""
        return dict(self._machines)

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks by their names."""
        return dict(self._networks)

    @property
    def network(self) -> Network:
        """The first network; NotFoundError if there is none."""
        for network in self._networks.values():
            return network
        raise NotFoundError(
            "the cluster has no network", todo="Add one when you prepare it: cluster.add_network()."
        )

    def __getitem__(self, name: str) -> Machine:
        try:
            return self._machines[name]
        except (KeyError, TypeError):
            known = ", ".join(self._machines) or "none"
            raise NotFoundError(
                f"the cluster has no machine {name!r}", why=f"its machines are: {known}"
            ) from None

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._machines.values()))

    def __len__(self) -> int:
        return len(self._machines)

    def snapshot(self, name: str) -> None:
        """Save all machines at one moment, to return to with :meth:`revert`.

        What they have sent to each other until then has arrived, or arrives after the return. Their
        processes do not notice. A machine's own :meth:`Machine.revert` knows the name, too.

        Raises:
            InvalidError: *name* is not a name.
            MachineStateError: a machine does not run.
            UnavailableError: a machine cannot be saved; all continue to run.
        """
        self._starter.snapshot(self, name)

    def revert(self, name: str | None = None) -> None:
        """Return all machines, in place, to a :meth:`snapshot`, or to their initial state.

        Active faults of the networks stay.

        Raises:
            NotFoundError: there is no such snapshot, or no initial state.
            MachineStateError: a machine was stopped.
        """
        self._starter.revert(self, name)

    def stop(self) -> None:
        """End all machines and networks; a second call does nothing."""
        self._is_stopped = True
        self._starter.stop(self)

    def _require_running(self) -> None:
        if self._is_stopped:
            raise WrongStateError(
                f"the cluster {self.name} was stopped", needed="running", found="stopped"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {', '.join(self._machines) or 'empty'}>"


class PreparedCluster:
    """A cluster that was prepared once, to be copied; made by :meth:`Launcher.prepare_cluster`."""

    def __init__(self, copy: Callable[[str | None], Cluster], close: Callable[[], None]) -> None:
        self._copy = copy
        self._close = close
        self._is_closed = False

    def copy(self, name: str | None = None) -> Cluster:
        """A cluster of its own that begins where the preparation ended.

        Args:
            name: its name within the launcher; None: ``cluster1``, ``cluster2``, ….

        Raises:
            InvalidError: *name* is not a name, or another cluster has it.
            WrongStateError: it was closed.
            CoreInfraError: as :meth:`Launcher.clone`.
        """
        if self._is_closed:
            raise WrongStateError(
                "cannot copy a prepared cluster", why="it was closed", needed="open", found="closed"
            )
        return self._copy(name)

    def close(self) -> None:
        """End it; its copies live on, without an initial state. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._close()


def restore(
    cluster: Cluster, machines: Mapping[str, Machine], networks: Mapping[str, Network]
) -> None:
    """Fill an empty cluster."""
    cluster._machines.update(machines)  # noqa: SLF001 - of the class above
    cluster._networks.update(networks)  # noqa: SLF001 - the same
