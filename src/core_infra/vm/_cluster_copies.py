"""Prepares clusters, copies them, and saves and reverts them."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cluster import Cluster, PreparedCluster, restore
from core_infra.vm._machine_lifecycle import MachineLifecycle
from core_infra.vm._machine_snapshots import check_snapshot_name, reverted_to
from core_infra.vm._names import is_plain_name, plain_name
from core_infra.vm._networks import Network, NetworkAddress, lan_of
from core_infra.vm._prepared_machine import check_preparation
from core_infra.vm._saved_cluster import (
    SavedCluster,
    SavedMachine,
    saved_faults,
    saved_network,
)
from core_infra.vm._snapshots.together import Node

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._launcher_networks import Networks
    from core_infra.vm._live_machines import LiveMachines
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineOptions
    from core_infra.vm._network.lan import Lan
    from core_infra.vm._network.under_way import Frames
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._snapshots.cloner import Cloner


class Clusters:
    """The clusters of a launcher.

    Args:
        live: the machines of the launcher.
        networks: its networks.
        cloner: clones machines.
        start: starts a machine.
    """

    def __init__(
        self,
        live: LiveMachines,
        networks: Networks,
        cloner: Cloner,
        start: Callable[..., Machine],
    ) -> None:
        self._live = live
        self._networks = networks
        self._cloner = cloner
        self._start = start
        self._numbers = itertools.count(1)
        self._frames: dict[tuple[Cluster, str | None], dict[Lan, Frames]] = {}

    def prepare(
        self,
        prepare: Callable[[Cluster], object],
        on_failure: Callable[[Cluster, BaseException], None] | None,
    ) -> PreparedCluster:
        """See :meth:`core_infra.vm.Launcher.prepare_cluster`."""
        check_preparation(prepare, on_failure)
        cluster = Cluster(f"prepared{next(self._numbers)}", self)
        try:
            prepare(cluster)
            saved = self._saved(self._lifecycles(cluster), _lans(cluster))
        except BaseException as error:
            if on_failure is not None:
                on_failure(cluster, error)
            raise
        finally:
            self.stop(cluster)
        sources = [machine.source for machine in saved.machines]
        self._cloner.keep(sources)

        def close() -> None:
            for source in sources:
                self._cloner.forget(source)

        return PreparedCluster(lambda name: self.copy(saved, name), close)

    def add_machine(
        self,
        cluster: Cluster,
        name: str,
        networks: Sequence[Network | NetworkAddress],
        image: Bootable | str | os.PathLike[str] | None,
        options: MachineOptions,
    ) -> Machine:
        """See :class:`~core_infra.vm._cluster.ClusterStarter`."""
        return self._start(image, name=f"{name}@{cluster.name}", networks=networks, **options)

    def add_network(
        self, subnet: str | None, *, name: str | None, outside: bool, seed: int
    ) -> Network:
        """The same."""
        return self._networks.add(subnet, name=name, outside=outside, seed=seed)

    def snapshot(self, cluster: Cluster, name: str) -> None:
        """The same."""
        check_snapshot_name(name)
        lifecycles = self._lifecycles(cluster)
        lans = list(_lans(cluster).values())
        sources, frames = self._capture(lifecycles, lans)
        for lifecycle, source in zip(lifecycles, sources, strict=True):
            lifecycle.snapshots.add(name, source)
        self._frames[cluster, name] = dict(zip(lans, frames, strict=True))

    def revert(self, cluster: Cluster, name: str | None) -> None:
        """The same."""
        if name is not None:
            check_snapshot_name(name)
        if (cluster, name) not in self._frames:
            known = [repr(one) for other, one in self._frames if other is cluster and one]
            raise NotFoundError(
                f"the cluster {cluster.name} has no "
                + ("initial state to return to" if name is None else f"snapshot {name!r}"),
                why=f"there is {', '.join(known) or 'none'}",
            )
        lifecycles = self._lifecycles(cluster)
        nodes = [
            Node(
                lifecycle.spec.name,
                lifecycle.snapshots.source_of(name),
                lifecycle.directory,
                reverted_to(name),
                lifecycle.networks.connect,
                # One that has joined a copy starts without; and the others have it as a name.
                lifecycle.networks.payload(),
            )
            for lifecycle in lifecycles
        ]
        lans = list(_lans(cluster).values())
        frames = self._frames[cluster, name]
        under_way = [(lan, frames.get(lan, ())) for lan in lans]  # one may have been added since
        with contextlib.ExitStack() as replacing:
            for lifecycle in lifecycles:
                replacing.enter_context(lifecycle.replacing())
            for lan in lans:
                lan.clear()
            clones = self._cloner.clone_together(nodes, under_way)
            for lifecycle, (process, info) in zip(lifecycles, clones, strict=True):
                lifecycle.replace(process, info, lifecycle.snapshots.faults_of(name))

    def stop(self, cluster: Cluster) -> None:
        """The same."""
        for machine in cluster:
            self._live.discard(machine)
        for network in cluster.networks.values():
            network.close()
        for key in [key for key in self._frames if key[0] is cluster]:
            del self._frames[key]

    def capture(self, machines: Sequence[Machine]) -> SavedCluster:
        """Save machines at one moment, with their networks and the faults of these; they continue.

        The caller closes the sources. Networks with the same name get a number.

        Args:
            machines: the machines: those of :meth:`connected`.

        Raises:
            CoreInfraError: one of them cannot be saved.
        """
        lifecycles = [self._live.lifecycle_of(machine) for machine in machines]
        lans: dict[str, Lan] = {}
        for lifecycle in lifecycles:
            for lan, _ in lifecycle.networks.cards:
                if lan not in lans.values():
                    lans[f"{lan.name} {len(lans)}" if lan.name in lans else lan.name] = lan
        saved = self._saved(lifecycles, lans)
        networks = (one._replace(faults=saved_faults(lans[one.name])) for one in saved.networks)
        return saved._replace(networks=tuple(networks))

    def connected(self, machines: Sequence[Machine]) -> list[list[Machine]]:
        """Groups of machines; no machine shares a network with one of another group."""
        groups: list[tuple[set[Lan], list[Machine]]] = []
        for machine in machines:
            lans = {lan for lan, _ in self._live.lifecycle_of(machine).networks.cards}
            joined = [group for group in groups if group[0] & lans]
            groups = [group for group in groups if not group[0] & lans]
            members = [one for _, others in joined for one in others]
            groups.append((lans.union(*(others for others, _ in joined)), [*members, machine]))
        return [members for _, members in groups]

    def _lifecycles(self, cluster: Cluster) -> list[MachineLifecycle]:
        return [self._live.lifecycle_of(machine) for machine in cluster]

    def _capture(
        self, lifecycles: Sequence[MachineLifecycle], lans: Sequence[Lan]
    ) -> tuple[list[CloneSource], list[Frames]]:
        if not lifecycles:
            raise InvalidError("cannot save a cluster without machines")
        with contextlib.ExitStack() as ports:
            processes = [lifecycle.snapshots.process_to_save() for lifecycle in lifecycles]
            for lifecycle in lifecycles:
                ports.enter_context(lifecycle.without_ports())
            return self._cloner.capture_together(processes, lans)

    def _saved(
        self, lifecycles: Sequence[MachineLifecycle], lans: Mapping[str, Lan]
    ) -> SavedCluster:
        names = {lan: name for name, lan in lans.items()}
        for lifecycle in lifecycles:
            for lan, _ in lifecycle.networks.cards:
                if lan not in names:
                    raise InvalidError(
                        f"cannot copy machine {lifecycle.spec.name} with its cluster",
                        why=f"it is on the network {lan.name}, which is not the cluster's",
                        todo="Make the network with cluster.add_network().",
                    )
        sources, frames = self._capture(lifecycles, list(names))
        machines = (
            SavedMachine(
                plain_name(lifecycle.spec.name),
                lifecycle.spec,
                source,
                tuple(
                    (names[lan], str(member.address)) for lan, member in lifecycle.networks.cards
                ),
            )
            for lifecycle, source in zip(lifecycles, sources, strict=True)
        )
        networks = (
            saved_network(name, lan, under)
            for (name, lan), under in zip(lans.items(), frames, strict=True)
        )
        return SavedCluster(tuple(machines), tuple(networks))

    def copy(self, saved: SavedCluster, name: str | None) -> Cluster:
        """A cluster that begins where one was saved.

        Args:
            saved: what it begins as.
            name: its name within the launcher; None: ``cluster1``, ``cluster2``, ….
        """
        started = time.monotonic()
        if name is None:
            name = f"cluster{next(self._numbers)}"
        if not is_plain_name(name):
            raise InvalidError(
                f"cannot name a cluster {name!r}", todo="Use letters, digits, dashes."
            )
        cluster = Cluster(name, self)
        with contextlib.ExitStack() as directories, contextlib.ExitStack() as undo:
            networks = {}
            for one in saved.networks:
                networks[one.name] = self.add_network(
                    one.subnet, name=one.name, outside=one.outside, seed=one.seed
                )
                undo.callback(networks[one.name].close)
                for inside, outside in one.exposed:
                    networks[one.name].expose(inside, outside)
                for fault in one.faults:
                    fault.add_to(lan_of(networks[one.name]))
            joined, nodes = [], []
            for machine in saved.machines:
                full = f"{machine.name}@{cluster.name}"
                cards = [networks[net].at(address) for net, address in machine.cards]
                joined.append(self._networks.join(full, cards))
                directory = directories.enter_context(self._live.run.machine(full))
                past = machine.source.past
                nodes.append(Node(full, machine.source, directory, past, joined[-1].connect))
            under_way = [(lan_of(networks[one.name]), one.frames) for one in saved.networks]
            clones = self._cloner.clone_together(nodes, under_way)
            machines = {}
            for machine, node, member, (process, info) in zip(
                saved.machines, nodes, joined, clones, strict=True
            ):
                spec = machine.spec.named(node.name)
                lifecycle = MachineLifecycle(spec, process, self._cloner, machine.source, member)
                machines[machine.name] = self._live.add(lifecycle, started, info)
            undo.pop_all()
        restore(cluster, machines, networks)
        frames = {lan_of(networks[one.name]): one.frames for one in saved.networks}
        self._frames[cluster, None] = frames
        return cluster


def _lans(cluster: Cluster) -> dict[str, Lan]:
    """The networks of a cluster; WrongStateError if one of them was closed."""
    lans = {name: lan_of(network) for name, network in cluster.networks.items()}
    for lan in lans.values():
        lan.require_open()
    return lans
