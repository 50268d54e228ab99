"""The addresses of a network: which machine has which, and which are reserved."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_SMALLEST = 28
_DEFAULTS = "10.9.{}.0/24"
_PORTS = "10.0.2.0/24"
_NOT_POSSIBLE = {
    "0.0.0.0/8": "not those of hosts",
    _PORTS: "those of the card that each machine has for its ports",
    "127.0.0.0/8": "those of each host itself",
    "224.0.0.0/3": "those of groups, or reserved",
}


class Subnet:
    """A network's addresses.

    The first IPv4 address is for what :meth:`Network.expose` exposes. The last one is the
    gateway's, and the one before it the name server's, if the network leads outside. The IPv6
    addresses are unique local ones (RFC 4193) with the same host numbers.

    Args:
        text: the IPv4 network, such as ``10.9.0.0/24``.

    Raises:
        InvalidError: that is not a network, or it is too small.
    """

    def __init__(self, text: str) -> None:
        try:
            self.ipv4 = ipaddress.IPv4Network(str(text))
        except ValueError as error:
            raise InvalidError(
                f"cannot use {text!r} as a subnet",
                why=str(error),
                todo="Give an IPv4 network, such as 10.9.0.0/24.",
            ) from error
        if self.ipv4.prefixlen > _SMALLEST:
            raise InvalidError(
                f"cannot use {text} as a subnet",
                why=f"it has {self.ipv4.num_addresses} addresses, and some are reserved",
                todo=f"Use a prefix of {_SMALLEST} bits at most.",
            )
        why = next((why for taken, why in _NOT_POSSIBLE.items() if self._has_of(taken)), None)
        if why is not None:
            raise InvalidError(
                f"cannot use {text} as a subnet",
                why=f"it has addresses that are {why}",
                todo="Use private addresses, such as 10.9.0.0/24.",
            )
        prefix = b"\xfd\x00" + self.ipv4.network_address.packed + bytes(10)
        self.ipv6 = ipaddress.IPv6Network((prefix, 64))

    def _has_of(self, taken: str) -> bool:
        """Whether it is in a block, or has all of it: of the block of ports, it may have more."""
        block = ipaddress.IPv4Network(taken)
        return self.ipv4.subnet_of(block) or (taken != _PORTS and self.ipv4.supernet_of(block))

    @property
    def host(self) -> ipaddress.IPv4Address:
        """The address of this host's exposed servers."""
        return self.ipv4[1]

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The gateway of a network that leads outside."""
        return self.ipv4[-2]

    @property
    def name_server(self) -> ipaddress.IPv4Address:
        """The name server of a network that leads outside."""
        return self.ipv4[-3]

    def checked(
        self, text: str, used: Collection[ipaddress.IPv4Address] = ()
    ) -> ipaddress.IPv4Address:
        """A requested address.

        Raises:
            InvalidError: it is not an address of this network, or another machine has it.
        """
        try:
            address = ipaddress.IPv4Address(str(text))
        except ValueError as error:
            raise InvalidError(f"cannot use {text!r} as an IPv4 address", why=str(error)) from error
        last = self.ipv4[-1]
        if address not in self.ipv4 or address in (self.ipv4[0], last):
            raise InvalidError(
                f"cannot give a machine the address {text}",
                why=f"it is not a host's address in the subnet {self.ipv4}",
                todo=f"Use one of {self.ipv4[2]} to {self.ipv4[-4]}.",
            )
        if address in (self.host, self.gateway, self.name_server):
            raise InvalidError(
                f"cannot give a machine the address {text}",
                why="it is reserved for the host",
                todo=f"Use one of {self.ipv4[2]} to {self.ipv4[-4]}.",
            )
        if address in used:
            raise InvalidError(
                f"cannot give a machine the address {text}", why="another machine has it"
            )
        return address

    def free(self, used: Collection[ipaddress.IPv4Address]) -> ipaddress.IPv4Address:
        """The first address that no machine has; InvalidError if there is none."""
        for number in range(2, self.ipv4.num_addresses - 3):
            if self.ipv4[number] not in used:
                return self.ipv4[number]
        raise InvalidError(
            f"there is no address left in {self.ipv4}",
            why=f"{len(used)} machines have one",
            todo="Give the network a larger subnet.",
        )

    def ipv6_of(self, address: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
        """The IPv6 address of the machine with an IPv4 address."""
        return self.ipv6[int(address) - int(self.ipv4.network_address)]


def hardware_address(address: ipaddress.IPv4Address) -> bytes:
    """The hardware address of the card with an IPv4 address: the same in each run."""
    return b"\x02\x00" + address.packed


def free_subnet(used: Iterable[ipaddress.IPv4Network]) -> str:
    """A default subnet that overlaps no other."""
    taken = list(used)
    for number in range(256):
        text = _DEFAULTS.format(number)
        if not any(ipaddress.IPv4Network(text).overlaps(other) for other in taken):
            return text
    raise InvalidError("there is no default subnet left", todo="Give each network a subnet.")
