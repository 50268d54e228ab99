"""Machines that were saved at one moment, with their networks, and what is under way there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from core_infra.vm._network.faults import NetworkFault
from core_infra.vm._network.lan import OUTSIDE

if TYPE_CHECKING:
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._network.lan import Lan
    from core_infra.vm._network.link_settings import LinkSettings
    from core_infra.vm._network.under_way import Frames
    from core_infra.vm._snapshots.clone_source import CloneSource

Pair = tuple[str, str]
"""The machine that sends, and the one that gets."""


class SavedFault(NamedTuple):
    """A fault of a network without its function, so that it can be written to a file.

    Attributes:
        description: what it does, for reports.
        cuts: the pairs of machines between which nothing passes.
        links: the settings of the links that it changes.
    """

    description: str
    cuts: frozenset[Pair]
    links: dict[Pair, LinkSettings]

    def add_to(self, lan: Lan) -> None:
        """Start it on another network."""
        cuts = self.cuts
        fault = NetworkFault(
            self.description,
            lan,
            cuts=lambda source, target: (source, target) in cuts,
            links=self.links,
        )
        lan.begin(fault)


class SavedMachine(NamedTuple):
    """A machine of a saved cluster.

    Attributes:
        name: its name there.
        spec: what it is made of.
        source: what it is cloned from.
        cards: the name of the network of each card, and the address.
    """

    name: str
    spec: MachineSpec
    source: CloneSource
    cards: tuple[tuple[str, str], ...]


class SavedNetwork(NamedTuple):
    """A network of a saved cluster.

    Attributes:
        name: its name there.
        subnet: its addresses.
        outside: whether it leads to the world outside.
        seed: decides which frames are hit by faults.
        exposed: the servers outside, by address and port inside.
        frames: what is under way.
        faults: faults that a copy begins with.
    """

    name: str
    subnet: str
    outside: bool
    seed: int
    exposed: tuple[tuple[str, str], ...]
    frames: Frames
    faults: tuple[SavedFault, ...] = ()


class SavedCluster(NamedTuple):
    """Machines that were saved at one moment, and all their networks."""

    machines: tuple[SavedMachine, ...]
    networks: tuple[SavedNetwork, ...]


def saved_network(name: str, lan: Lan, frames: Frames) -> SavedNetwork:
    """A network as it is now, but for its faults."""
    exposed = tuple(
        (f"{address}:{port}", f"{_bracketed(host)}:{server}")
        for (address, port), (host, server) in lan.gateway.exposed.items()
    )
    return SavedNetwork(name, str(lan.subnet.ipv4), lan.outside, lan.seed, exposed, frames)


def saved_faults(lan: Lan) -> tuple[SavedFault, ...]:
    """The faults of a network that are active; not those that are functions of a frame."""
    names = [*(member.name for member in lan.members()), OUTSIDE]
    pairs = list(itertools.permutations(names, 2))
    return tuple(
        SavedFault(
            fault.description,
            frozenset(pair for pair in pairs if fault.cuts(*pair)),
            dict(fault.links),
        )
        for fault in lan.faults
        if fault.drops is None
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
