"""The faults of a network that are active, and what the switch is set to because of them."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra.vm._network.frame import Frame
from core_infra.vm._network.inspection import Inspection
from core_infra.vm._network.link_settings import LinkSettings

if TYPE_CHECKING:
    from core_infra.vm._fault import Fault
    from core_infra.vm._network.faults import NetworkFault
    from core_infra.vm._network.switch import Switch

_PLAIN = LinkSettings()


class ActiveFaults:
    """The faults of one network; the caller has its lock.

    Args:
        switch: what moves the frames.
        network: the network's number in the switch.
        seed: decides which frames are hit.

    Attributes:
        all: the faults, oldest first.
    """

    def __init__(self, switch: Switch, network: int, seed: int) -> None:
        self.all: list[NetworkFault] = []
        self._switch = switch
        self._network = network
        self._seed = seed
        self._ports: dict[str, int] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._links: dict[tuple[str, str], tuple[NetworkFault, LinkSettings]] = {}
        self._inspection: Inspection | None = None

    def add(self, fault: NetworkFault) -> None:
        """Start a fault; it is at work when this returns."""
        self.all.append(fault)
        self._update()

    def remove(self, fault: Fault) -> None:
        """End a fault, if it is active."""
        if fault in self.all:
            self.all = [other for other in self.all if other is not fault]
            fault.finish()
            self._update()

    def clear(self) -> None:
        """End all faults."""
        ended, self.all = self.all, []
        for fault in ended:
            fault.finish()
        if ended:
            self._update()

    def add_port(self, name: str, port: int) -> None:
        """A machine was connected."""
        if self._ports.get(name) == port:
            return  # again, since it was reverted: the switch has its links still
        self.remove_port(name)
        self._ports[name] = port
        if self.all:
            self._update()

    def remove_port(self, name: str) -> None:
        """A machine has left."""
        self._ports.pop(name, None)
        self._cuts = {pair for pair in self._cuts if name not in pair}
        self._links = {pair: link for pair, link in self._links.items() if name not in pair}

    def _update(self) -> None:
        for pair in itertools.permutations(self._ports, 2):
            self._update_cut(pair)
            self._update_link(pair)
        self._update_inspection()
        self._switch.sync()

    def _update_inspection(self) -> None:
        wanted = any(fault.drops for fault in self.all)
        if wanted and self._inspection is None:
            self._inspection = Inspection(self._switch, self._network, self._judge)
        elif self._inspection is not None and not wanted:
            ended, self._inspection = self._inspection, None
            ended.close()

    def _update_cut(self, pair: tuple[str, str]) -> None:
        cut = any(fault.cuts(*pair) for fault in self.all)
        if cut != (pair in self._cuts):
            (self._cuts.add if cut else self._cuts.remove)(pair)
            source, target = (self._ports[name] for name in pair)
            self._switch.set_cut(self._network, source, target, cut=cut)

    def _update_link(self, pair: tuple[str, str]) -> None:
        wanted = next(
            ((fault, fault.links[pair]) for fault in reversed(self.all) if pair in fault.links),
            None,
        )
        if wanted == self._links.get(pair):
            return  # to set it again would begin its sequence of random numbers again
        if wanted is None:
            del self._links[pair]
            settings = _PLAIN
        else:
            self._links[pair] = wanted
            settings = replace(wanted[1], seed=_seed_of(self._seed, pair))
        source, target = (self._ports[name] for name in pair)
        self._switch.set_link(self._network, source, target, settings)

    def _judge(self, port: int, data: bytes) -> bool:
        """Whether a frame is dropped; called on the thread of the inspection."""
        names = [name for name, number in list(self._ports.items()) if number == port]
        frame = Frame(data, names[0] if names else "")
        drop = False
        for fault in list(self.all):
            if fault.drops is None:
                continue
            try:
                drop = drop or bool(fault.drops(frame))
            except BaseException as error:  # noqa: BLE001 - raised where the fault is healed
                fault.error = fault.error or error
        return drop


def _seed_of(seed: int, pair: tuple[str, str]) -> int:
    text = "\0".join((str(seed), *pair)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
