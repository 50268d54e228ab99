"""Ports of a machine on this host's loopback address, added while it runs.

No saved machine has any. The system chooses each port when it is requested, so that nothing
collides, and the default address is the loopback's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import threading
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm._hardware import check_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._hypervisors.qmp import Qmp

_NETWORK = "net0"
_IPV4 = 4
_LOOPBACK = "127.0.0.1"
_FORWARD = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)")


def forward(
    qmp: Qmp, port: int, *, host: int = 0, address: str = _LOOPBACK, udp: bool = False
) -> int:
    """Forward a port of this host to *port* of the guest.

    Args:
        qmp: the machine's monitor.
        port: the guest's.
        host: this host's; 0 lets the system choose.
        address: of this host, where it is listened on.
        udp: it is a UDP port, and not a TCP port.

    Returns:
        The port of this host.

    Raises:
        InvalidError: *port* or *address* is not possible.
        UnavailableError: QEMU could not listen on it.
    """
    check_port(port)
    if host != 0:
        check_port(host)
    check_address(address)
    before = _forwards(qmp)
    kind = "udp" if udp else "tcp"
    answer = _human(qmp, f"hostfwd_add {_NETWORK} {kind}:{address}:{host}-:{port}")
    added = _forwards(qmp) - before
    if len(added) != 1:
        where = "" if address == _LOOPBACK else f" at {address}"
        raise UnavailableError(
            f"port {host} of this host{where} cannot lead to port {port} of the machine",
            why=f"it is in use, or only root may have it, or this host has no such address: "
            f"{answer.strip()}",
        )
    return int(added.pop()[2])


def check_address(address: str) -> None:
    """InvalidError unless it is an address that QEMU can listen on."""
    try:
        version = ipaddress.ip_address(address).version
    except ValueError as error:
        raise InvalidError(f"{address!r} is not an IP address", why=str(error)) from error
    if version != _IPV4:
        raise InvalidError(
            f"cannot listen on {address}",
            why="QEMU forwards ports of IPv4 addresses only",
            todo=f"Listen on {_LOOPBACK}, or have a program of this host pass it on.",
        )


def withdraw(qmp: Qmp, host: int) -> None:
    """Stop forwarding a port of this host; does nothing if it was not forwarded."""
    _human(qmp, f"hostfwd_remove {_NETWORK} tcp:127.0.0.1:{host}")


class ForwardedPorts:
    """The ports that a machine has, the same ones in each process that runs it."""

    def __init__(self) -> None:
        self._hosts: dict[int, int] = {}
        self._lock = threading.Lock()

    def forward(self, qmp: Qmp, port: int) -> int:
        """The port of this host that leads to *port* of the guest; the same one at each call."""
        check_port(port)
        with self._lock:
            if port not in self._hosts:
                self._hosts[port] = forward(qmp, port)
            return self._hosts[port]

    def forward_again(self, qmp: Qmp) -> None:
        """Forward all of them to another process of the machine."""
        for port, host in self._hosts.items():
            forward(qmp, port, host=host)

    @contextlib.contextmanager
    def withdrawn(self, qmp: Qmp) -> Iterator[None]:
        """Within the block, none of them is forwarded; open connections stay."""
        for host in self._hosts.values():
            withdraw(qmp, host)
        try:
            yield
        finally:
            self.forward_again(qmp)


def _forwards(qmp: Qmp) -> set[tuple[str, str, str, str]]:
    """Of each, its kind, the address and port of this host, and the port of the guest."""
    return set(_FORWARD.findall(_human(qmp, "info usernet")))


def _human(qmp: Qmp, line: str) -> str:
    # There is no such command in QMP itself.
    return str(qmp.execute("human-monitor-command", command_line=line))
