"""Ports of a machine on this host's loopback address, added while it runs.

No saved machine has any: the system chooses each port when it is asked for, so that nothing
collides, and nothing listens on any other address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, UnavailableError

if TYPE_CHECKING:
    from core_infra.vm.hypervisors.qmp import Qmp

HIGHEST = 65535
_NETWORK = "net0"
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


def forward(qmp: Qmp, port: int, *, host: int = 0) -> int:
    """Forward a TCP port of this host to *port* of the guest.

    Args:
        qmp: the machine's monitor.
        port: the guest's.
        host: this host's; 0 lets the system choose.

    Returns:
        The port on 127.0.0.1.

    Raises:
        InvalidError: there is no such port.
        UnavailableError: QEMU could not listen on it.
    """
    check(port)
    if host != 0:
        check(host)
    before = _forwards(qmp)
    answer = _human(qmp, f"hostfwd_add {_NETWORK} tcp:127.0.0.1:{host}-:{port}")
    added = _forwards(qmp) - before
    if len(added) != 1:
        raise UnavailableError(
            f"port {host} of this host cannot lead to port {port} of the machine",
            why=f"it is in use, or only root may have it: {answer.strip()}",
        )
    return added.pop()[0]


def check(port: object) -> None:
    """InvalidError unless there is such a port."""
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= HIGHEST:
        raise InvalidError(f"there is no port {port!r}", why=f"ports are numbers, 1 to {HIGHEST}")


def withdraw(qmp: Qmp, host: int) -> None:
    """Listen on a port of this host no more; nothing if nobody did."""
    _human(qmp, f"hostfwd_remove {_NETWORK} tcp:127.0.0.1:{host}")


def _forwards(qmp: Qmp) -> set[tuple[int, int]]:
    """The pairs of a port of this host and one of the guest."""
    text = _human(qmp, "info usernet")
    return {(int(ours), int(guest)) for ours, guest in _FORWARD.findall(text)}


def _human(qmp: Qmp, line: str) -> str:
    # There is no such command in QMP itself.
    return str(qmp.execute("human-monitor-command", command_line=line))
