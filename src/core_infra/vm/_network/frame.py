"""A frame on a network, with the fields by which tests choose frames."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from functools import cached_property

_IPV4, _IPV6, _ARP, _VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_NAMES = {_TCP: "tcp", _UDP: "udp", _ICMP: "icmp", _ICMPV6: "icmpv6"}
_EXTENSIONS = {0, 43, 60}  # IPv6 headers before the payload's: hop-by-hop, routing, destination
_WITH_PORTS = 4


@dataclass(frozen=True)
class Frame:
    """An Ethernet frame that a machine has sent.

    Attributes:
        data: its bytes, from the destination's hardware address on.
        source: the name of the machine that has sent it.
    """

    data: bytes = field(repr=False)
    source: str

    @property
    def destination_mac(self) -> str:
        """Such as ``02:00:0a:09:00:02``; ``ff:ff:ff:ff:ff:ff``: all machines."""
        return self.data[:6].hex(":")

    @property
    def source_mac(self) -> str:
        """The sender's hardware address."""
        return self.data[6:12].hex(":")

    @cached_property
    def ether_type(self) -> int:
        """The payload's type, such as 0x0800; that inside of a VLAN's tag."""
        return int.from_bytes(self.data[self._at - 2 : self._at], "big")

    @property
    def is_arp(self) -> bool:
        """Whether it asks for a hardware address, or is such an answer."""
        return self.ether_type == _ARP

    @property
    def source_ip(self) -> str | None:
        """The sender's IP address; None if it is not an IP packet."""
        return self._address(12, 8)

    @property
    def destination_ip(self) -> str | None:
        """The receiver's IP address; None if it is not an IP packet."""
        return self._address(16, 24)

    @property
    def protocol(self) -> str | int | None:
        """``tcp``, ``udp``, ``icmp``, ``icmpv6``, another protocol's number, or None: not IP."""
        number = self._transport[0]
        return None if number is None else _NAMES.get(number, number)

    @property
    def tcp_port(self) -> int | None:
        """The TCP port that it is sent to; None if it is not TCP."""
        return self._port(_TCP, 2)

    @property
    def tcp_source_port(self) -> int | None:
        """The TCP port that it is sent from; None if it is not TCP."""
        return self._port(_TCP, 0)

    @property
    def udp_port(self) -> int | None:
        """The UDP port that it is sent to; None if it is not UDP."""
        return self._port(_UDP, 2)

    @property
    def udp_source_port(self) -> int | None:
        """The UDP port that it is sent from; None if it is not UDP."""
        return self._port(_UDP, 0)

    @property
    def payload(self) -> bytes:
        """What TCP or UDP carries; for other frames, what follows the last known header."""
        number, at = self._transport
        if number == _TCP and len(self.data) > at + 12:
            at += (self.data[at + 12] >> 4) * 4
        elif number == _UDP:
            at += 8
        return self.data[at : self._end]

    @cached_property
    def _at(self) -> int:
        return 18 if self.data[12:14] == _VLAN.to_bytes(2, "big") else 14

    @cached_property
    def _end(self) -> int:
        """Where the packet ends: a short frame is filled up."""
        if self.ether_type == _IPV4:
            return self._at + int.from_bytes(self.data[self._at + 2 : self._at + 4], "big")
        if self.ether_type == _IPV6:
            return self._at + 40 + int.from_bytes(self.data[self._at + 4 : self._at + 6], "big")
        return len(self.data)

    @cached_property
    def _transport(self) -> tuple[int | None, int]:
        """The number of the protocol in IP, and where its header is."""
        at, data = self._at, self.data
        if self.ether_type == _IPV4 and len(data) >= at + 20:
            return data[at + 9], at + (data[at] & 15) * 4
        if self.ether_type == _IPV6 and len(data) >= at + 40:
            number, at = data[at + 6], at + 40
            while number in _EXTENSIONS and len(data) > at + 1:
                number, at = data[at], at + (data[at + 1] + 1) * 8
            return number, at
        return None, at

    def _address(self, v4: int, v6: int) -> str | None:
        start = self._at
        if self.ether_type == _IPV4:
            packed = self.data[start + v4 : start + v4 + 4]
        elif self.ether_type == _IPV6:
            packed = self.data[start + v6 : start + v6 + 16]
        else:
            return None
        return str(ipaddress.ip_address(packed)) if len(packed) in (4, 16) else None

    def _port(self, protocol: int, offset: int) -> int | None:
        number, at = self._transport
        # Only the first fragment of an IPv4 packet has ports.
        later = self.ether_type == _IPV4 and int.from_bytes(self.data[self._at + 6 :][:2]) & 0x1FFF
        if number != protocol or later or len(self.data) < at + _WITH_PORTS:
            return None
        return int(struct.unpack_from(">H", self.data, at + offset)[0])
