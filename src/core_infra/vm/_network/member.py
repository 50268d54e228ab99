"""A machine on a network, as the network knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.vm._guest.protocol import CardAddresses
from core_infra.vm._network.addresses import hardware_address

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Callable

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._network.addresses import Subnet


@dataclass(eq=False, slots=True)
class Member:
    """A machine on a network.

    Attributes:
        name: the machine's in its cluster.
        machine: the machine's in its launcher: with its cluster's.
        host: its name as a host.
        port: the number of its card in the switch.
        address: its IPv4 address; the others are made of it.
        card: the number of the card in the machine.
        agent: returns the connection to its guest's agent; None while it does not run.
        hosts: returns the lines for its /etc/hosts.
    """

    name: str
    machine: str
    host: str
    port: int
    address: ipaddress.IPv4Address
    card: int
    agent: Callable[[], AgentClient | None] = lambda: None
    hosts: Callable[[], str] = lambda: ""

    def settings(self, subnet: Subnet, *, outside: bool) -> CardAddresses:
        """What the guest's card is set to; *outside*: everything else goes to the gateway."""
        return CardAddresses(
            self.card,
            hardware_address(self.address),
            (self.address, subnet.ipv4.prefixlen),
            (subnet.ipv6_of(self.address), subnet.ipv6.prefixlen),
            subnet.gateway if outside else None,
        )
