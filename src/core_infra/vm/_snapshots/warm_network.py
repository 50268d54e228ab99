"""Run what a machine does first on a network: under emulation, that code is translated then.

A host that does not exist asks the guest for its hardware address, pings it, and connects to a port
that is closed. The addresses are of the block for documentation (RFC 5737); a clone gets others.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.vm._guest.protocol import CardAddresses

if TYPE_CHECKING:
    import socket

    from core_infra.vm._vmm_process import VmmProcess

_ROUNDS = 3
_PATIENCE = 0.5
_HOST_MAC, _HOST = b"\x02\x00\xc0\x00\x02\xfe", ipaddress.IPv4Address("192.0.2.254")
_IPV4, _ARP, _ICMP, _TCP = 0x0800, 0x0806, 1, 6


def warm_up_network(process: VmmProcess) -> None:
    """Let the guest set up its cards, and answer on them; in the end they have no addresses."""
    cards: list[CardAddresses] = []
    for number in range(_ROUNDS):
        address = ipaddress.IPv4Address(f"192.0.2.{number + 1}")
        address6 = ipaddress.IPv6Address(f"fd00:c000:200::{number + 1}")
        mac = b"\x02\x00" + address.packed
        cards = [
            CardAddresses(
                card, mac[:5] + bytes([number << 4 | card]), (address, 24), (address6, 64)
            )
            for card in range(len(process.cards))
        ]
        process.agent.set_cards(cards, f"{address}\twarm\n")
        for settings, card in zip(cards, process.cards, strict=True):
            _exchange(card, settings.mac, address)
    process.agent.set_cards([dataclasses.replace(card, mac=bytes(6)) for card in cards], "")


def _exchange(card: socket.socket, mac: bytes, address: ipaddress.IPv4Address) -> None:
    question = struct.pack(">HHBBH", 1, _IPV4, 6, 4, 1)
    question += _HOST_MAC + _HOST.packed + bytes(6) + address.packed
    ping = _summed(struct.pack(">BBHHH", 8, 0, 0, 1, 1) + bytes(56), 2)
    syn = struct.pack(">HHIIBBHHH", 9, 9, 1, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = _HOST.packed + address.packed + struct.pack(">HH", _TCP, len(syn))
    syn = _summed(pseudo + syn, len(pseudo) + 16)[len(pseudo) :]
    for frame in (
        _frame(b"\xff" * 6, _ARP, question),
        _frame(mac, _IPV4, _packet(address, _ICMP, ping)),
        _frame(mac, _IPV4, _packet(address, _TCP, syn)),
    ):
        card.send(frame)
        _await_answer(card)


def _await_answer(card: socket.socket) -> None:
    """Wait until the guest has sent something to the host; it may have a firewall."""
    deadline = time.monotonic() + _PATIENCE
    try:
        while (left := deadline - time.monotonic()) > 0:
            card.settimeout(left)
            if card.recv(1 << 16).startswith(_HOST_MAC):
                return
    except TimeoutError:
        return
    finally:
        card.settimeout(None)


def _frame(target: bytes, kind: int, payload: bytes) -> bytes:
    return target + _HOST_MAC + struct.pack(">H", kind) + payload


def _packet(target: ipaddress.IPv4Address, protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    return _summed(head + _HOST.packed + target.packed, 10) + payload


def _summed(data: bytes, at: int) -> bytes:
    """The data with the Internet checksum (RFC 1071) in its place."""
    words = struct.unpack(f">{len(data) // 2}H", data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack(">H", ~total & 0xFFFF) + data[at + 2 :]
