"""What connects a network with this host and the world: QEMU's user network, without a machine.

It is one more card on the switch, so faults apply to it, too. QEMU translates addresses in user
space (libslirp), and needs no privileges.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import socket
from core_infra.errors import InvalidError, UnavailableError
from core_infra.process._child import spawn
from core_infra.vm._hardware import check_port
from core_infra.vm._hypervisors.qemu_arguments import escaped
from core_infra.vm._network.switch import switch_program
from core_infra.vm._run_directory import write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.process._child import Child
    from core_infra.vm._network.addresses import Subnet

_PROGRAMS = ("qemu-system-x86_64", "qemu-system-aarch64")
_SERVER = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]]+)):(\d+)", re.ASCII)
_LEASES = 18


class Gateway:
    """The gateway of one network; it runs once it is needed.

    Args:
        subnet: the network's addresses.
        connect: connects its card with the network.
        directory: makes a directory for its files.
        outside: it leads outside; otherwise only to what is exposed.
    """

    def __init__(
        self,
        subnet: Subnet,
        connect: Callable[[socket.socket], None],
        directory: Callable[[], Path],
        *,
        outside: bool,
    ) -> None:
        self._subnet = subnet
        self._connect = connect
        self._make_directory = directory
        self._outside = outside
        self._exposed: dict[tuple[str, int], tuple[str, int]] = {}
        self._child: Child | None = None
        self._directory: Path | None = None
        self._lock = threading.Lock()

    @property
    def exposed(self) -> dict[tuple[str, int], tuple[str, int]]:
        """The servers outside, by address and port inside."""
        return dict(self._exposed)

    def expose(self, inside: str, outside: str) -> None:
        """Lead connections to an address inside to a server outside.

        Raises:
            InvalidError: an address is not possible.
        """
        address, port = _server(inside)
        host = str(self._subnet.host)
        if address != host:
            raise InvalidError(
                f"cannot expose a server at {inside}",
                why=f"{address} is not the address of this host in {self._subnet.ipv4}",
                todo=f"Use {host}:{port}.",
            )
        with self._lock:
            self._exposed[address, port] = _server(outside)
            self._stop()
            self._start()

    def start(self) -> None:
        """Start it."""
        with self._lock:
            self._start()

    def stop(self) -> None:
        """End it."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        program = next((name for name in _PROGRAMS if shutil.which(name)), None)
        if program is None:
            raise UnavailableError(
                "cannot connect a network with this host",
                why="QEMU is not installed",
                todo="Install it: apt-get install qemu-system-x86",
            )
        if self._directory is None:
            self._directory = self._make_directory()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, (self._directory / "gateway.log").open("wb") as log:
                self._child = spawn(
                    self._command(program, theirs.fileno()),
                    output=log,
                    pass_fds=[theirs.fileno()],
                )
            write_record(self._directory, self._child.pid, name="gateway")
            self._connect(ours)
        except BaseException:
            ours.close()
            self._stop()
            raise

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _command(self, program: str, fd: int) -> list[str]:
        subnet = self._subnet
        pool = subnet.ipv4[max(2, subnet.ipv4.num_addresses - _LEASES - 3)]
        user = [
            f"user,id=outside,net={subnet.ipv4},host={subnet.gateway},dns={subnet.name_server}",
            f"dhcpstart={pool},ipv6=off,restrict={'off' if self._outside else 'on'}",
        ]
        for (address, port), (host, server) in self._exposed.items():
            relay = shlex.join([str(switch_program()), "relay", host, str(server)])
            user.append(f"guestfwd=tcp:{address}:{port}-cmd:{escaped(relay)}")
        return [
            *(program, "-M", "none", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-netdev", ",".join(user)),
            *("-netdev", f"dgram,id=card,local.type=fd,local.str={fd}"),
            *("-netdev", "hubport,id=port0,hubid=0,netdev=outside"),
            *("-netdev", "hubport,id=port1,hubid=0,netdev=card"),
        ]


def _server(text: object) -> tuple[str, int]:
    found = _SERVER.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidError(
            f"cannot use {text!r} as a server's address",
            todo="Give an address and a TCP port, such as 127.0.0.1:5432.",
        )
    port = int(found[3])
    check_port(port)
    try:
        return str(ipaddress.ip_address(found[1] or found[2])), port
    except ValueError as error:
        raise InvalidError(f"cannot use {text!r} as a server's address", why=str(error)) from error
