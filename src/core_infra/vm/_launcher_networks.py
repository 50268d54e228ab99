"""The networks of a launcher, and the one switch that they share."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, WrongStateError
from core_infra.vm._hardware import check_switch
from core_infra.vm._network.addresses import Subnet, free_subnet
from core_infra.vm._network.lan import Lan
from core_infra.vm._network.membership import Memberships
from core_infra.vm._network.switch import Switch
from core_infra.vm._networks import Network, NetworkAddress, lan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.vm._network.member import Member

MAX_CARDS = 8
"""The most networks of a machine (``csrc/agent/cards.c``)."""


class Networks:
    """The networks of a launcher.

    Args:
        outlive: machines may outlive this process, and then keep their networks.
        make_directory: makes a directory of the given name.
    """

    def __init__(self, *, outlive: bool, make_directory: Callable[[str], Path]) -> None:
        self._outlive = outlive
        self._make_directory = make_directory
        self._switch: Switch | None = None
        self._lans: list[Lan] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stays = False
        self._is_closed = False

    def add(self, subnet: str | None, *, name: str | None, outside: bool, seed: int) -> Network:
        """A new network; the first one starts the switch.

        Raises:
            InvalidError: the subnet, the name or the seed is not possible.
            WrongStateError: the launcher was closed.
        """
        _check(name, seed)
        check_switch("outside", outside)
        with self._lock:
            if self._is_closed:
                raise WrongStateError(
                    "cannot make a network",
                    why="the launcher was closed",
                    needed="open",
                    found="closed",
                )
            if self._switch is None:
                self._switch = Switch(die_with_parent=not self._outlive)
            self._lans = [one for one in self._lans if not one.is_closed]
            number = next(self._numbers)
            taken = (one.subnet.ipv4 for one in self._lans)
            chosen = free_subnet(taken) if subnet in (None, "") else subnet
            lan = Lan(
                self._switch,
                Subnet(chosen),
                name=name or f"net{number}",
                outside=outside,
                seed=seed,
                directory=lambda: self._make_directory(f"gateway{number}"),
            )
            self._lans.append(lan)
            return Network(lan)

    def join(self, name: str, networks: Iterable[Network | NetworkAddress]) -> Memberships:
        """The cards of a machine that is about to start.

        Raises:
            InvalidError: the networks are not possible.
            AlreadyExistsError: another machine on a network has its name.
        """
        requested = checked_networks(networks)
        chosen = [(lan_of(one.network), one.address or None) for one in requested]
        if len(chosen) > MAX_CARDS:
            raise InvalidError(
                f"cannot put machine {name} on {len(chosen)} networks",
                why=f"a machine has {MAX_CARDS} cards at most",
            )
        cards: list[tuple[Lan, Member]] = []
        try:
            for card, (lan, address) in enumerate(chosen):
                for other, _ in chosen[:card]:
                    _check_apart(name, lan, other)
                cards.append((lan, lan.join(name, card, address)))
        except BaseException:
            Memberships(cards).leave()
            raise
        return Memberships(cards)

    @contextlib.contextmanager
    def joining(
        self, name: str, networks: Iterable[Network | NetworkAddress]
    ) -> Iterator[Memberships]:
        """The same for a machine that starts in the block; if it does not, they are left again."""
        joined = self.join(name, networks)
        try:
            yield joined
        except BaseException:
            joined.leave()
            raise

    def stay(self) -> None:
        """A machine outlives this process: so does the switch."""
        if self._switch is not None and not self._stays:
            self._stays = True
            self._switch.stay()

    def close(self) -> None:
        """Remove all networks, and end the switch unless it stays.

        Raises:
            Exception: an error of a function that chooses frames, or of a file of frames.
        """
        with self._lock, contextlib.ExitStack() as ending:
            self._is_closed = True
            if self._switch is None:
                return
            ending.callback(self._switch.close, stays=self._stays)
            for lan in [] if self._stays else self._lans:
                ending.callback(lan.close)
            self._lans.clear()
            self._switch = None


def checked_networks(networks: object) -> list[NetworkAddress]:
    """The networks that a machine is to be on.

    Raises:
        InvalidError: it is not a list of networks.
    """
    if isinstance(networks, str) or not isinstance(networks, Iterable):
        raise InvalidError(
            f"cannot put a machine on the networks {networks!r}", todo="Give a list of networks."
        )
    return [_checked(one) for one in networks]


def _check(name: object, seed: object) -> None:
    if not isinstance(name, str | None) or name == "" or not str(name).isprintable():
        raise InvalidError(f"cannot name a network {name!r}", why="it is a text of one line")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidError(f"cannot use seed={seed!r}", why="it is a whole number")


def _checked(network: object) -> NetworkAddress:
    if isinstance(network, Network):
        return NetworkAddress(network, "")
    if isinstance(network, NetworkAddress):
        return network
    raise InvalidError(
        f"cannot put a machine on the network {network!r}",
        why="it is not a network",
        todo="Make one with core_network() or Launcher.network().",
    )


def _check_apart(name: str, one: Lan, other: Lan) -> None:
    if one is other:
        raise InvalidError(
            f"cannot put machine {name} on the network {one.name} twice",
            why="each card is on a network of its own",
        )
    if one.subnet.ipv4.overlaps(other.subnet.ipv4):
        raise InvalidError(
            f"cannot put machine {name} on {one.name} and {other.name}",
            why=f"their subnets {one.subnet.ipv4} and {other.subnet.ipv4} overlap",
            todo="Give one of them another subnet.",
        )
