"""A machine's cards on networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._guest.protocol import encode_cards

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.protocol import CardAddresses
    from core_infra.vm._network.lan import Lan
    from core_infra.vm._network.member import Member
    from core_infra.vm._vmm_process import VmmProcess


class Memberships:
    """The cards of one machine; none for a machine without networks.

    Args:
        cards: each network of the machine, and the machine on it, in the order of its cards.
    """

    def __init__(self, cards: Sequence[tuple[Lan, Member]] = ()) -> None:
        self.cards = tuple(cards)
        for _, member in cards:
            member.hosts = self._hosts

    def payload(self) -> bytes:
        """The payload of CARDS that sets up the machine; empty for one without networks."""
        return encode_cards(self._settings(), self._hosts()) if self.cards else b""

    def set_up(self, agent: AgentClient) -> None:
        """Set up the cards of a guest that has booted, or whose agent has started again."""
        if self.cards:
            agent.set_cards(self._settings(), self._hosts())

    def connect(self, process: VmmProcess) -> None:
        """Connect the cards of a new process of the machine."""
        for (network, member), card in zip(self.cards, process.cards, strict=True):
            network.connect(member, card)
        process.cards.clear()

    def joined(self, agent: Callable[[], AgentClient | None]) -> None:
        """The machine runs: other machines get its name.

        Args:
            agent: returns the connection to its agent, or None while it does not run.
        """
        for network, member in self.cards:
            member.agent = agent
            if network.outside:
                network.set_name_server(member)
        others = {
            other.name: (network, other)
            for network, member in self.cards
            for other in network.members()
            if other is not member
        }
        for network, other in others.values():
            network.add_names(other)

    def leave(self) -> None:
        """The machine has ended: its names and addresses are free."""
        for network, member in self.cards:
            network.leave(member)

    def _settings(self) -> list[CardAddresses]:
        return [
            member.settings(network.subnet, outside=network.outside)
            for network, member in self.cards
        ]

    def _hosts(self) -> str:
        """The lines for /etc/hosts.

        A name has the IPv4 address alone, since many programs try only one; the IPv6 address has a
        name with a prefix, as Debian's ``ip6-localhost`` has.
        """
        lines = []
        for network, _ in self.cards:
            for other in network.members():
                same = other.name == other.host or " " in other.name
                names = other.host if same else f"{other.host} {other.name}"
                address6 = network.subnet.ipv6_of(other.address)
                lines += [f"{other.address}\t{names}\n", f"{address6}\tip6-{other.host}\n"]
        return "".join(lines)
