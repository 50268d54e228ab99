"""Who has a socket that somebody waits for connections on."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from core_infra._unpatched import Path, os, socket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTENS = "0A"
_ACCEPTS = 1 << 16
_CREDENTIALS = struct.Struct("iII")  # a pid, a user, a group


_ALL_4, _ALL_6 = ipaddress.ip_address(0), ipaddress.ip_address("::")
_EVERYWHERE = {4: (_ALL_4, _ALL_6), 6: (_ALL_6,)}
"""By the version of an address: who may take connections to it besides its own listener."""


class Listener(NamedTuple):
    """A socket that waits for TCP connections.

    Attributes:
        address: of the interface; unspecified for all.
        port: its port.
        user: the id of who made it.
        inode: its number, as in ``/proc/PID/fd``.
    """

    address: Address
    port: int
    user: int
    inode: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else self.address  # noqa: PLR2004
        return f"{host}:{self.port}"


def proc_is_ours() -> bool:
    """Whether there is a /proc with our numbers, not that of another PID namespace."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def listeners() -> Iterator[Listener]:
    """All of this network namespace; none without /proc."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, user, _, inode, *_ = line.split()
                if state == _LISTENS:
                    host, _, port = local.partition(":")
                    yield Listener(_address(host), int(port, 16), int(user), int(inode))


def sockets_of(pids: Collection[int]) -> tuple[set[int], set[int]]:
    """The inodes of the sockets that processes have; and the users of those that hide theirs."""
    inodes, hidden = set(), set()
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, number = os.readlink(entry.path).partition(":")
                    if kind == "socket":
                        inodes.add(int(number.strip("[]")))
        except PermissionError:
            hidden |= _users(pid)
        except OSError:
            pass  # it has ended
    return inodes, hidden


def accepting(connection: socket.socket) -> list[Listener]:
    """Who may have accepted a connection; none if that is not to be known.

    It is not for a server on another host or in another network namespace, for a port that the
    kernel forwards, and without a /proc of ours.
    """
    here, there = connection.getsockname(), connection.getpeername()
    address, port = _plain(there[0]), there[1]
    if _plain(here[0]) != address and not address.is_loopback:
        return []  # not of this host
    if not proc_is_ours():
        return []
    found = [one for one in listeners() if one.port == port]
    # The kernel's order: a socket of :: takes IPv4 as well, but only what none of 0.0.0.0 takes.
    for choice in (address, *_EVERYWHERE[address.version]):
        if chosen := [one for one in found if one.address == choice]:
            return chosen
    return []


def stranger(connection: socket.socket, pids: Collection[int]) -> str | None:
    """Who has accepted a connection, if that is surely none of these processes.

    Args:
        connection: a TCP connection that was accepted.
        pids: the processes.
    """
    found = accepting(connection)
    if not found:
        return None
    inodes, hidden = sockets_of(pids)
    if any(one.inode in inodes or one.user in hidden for one in found):
        return None
    return f"{found[0]} is another program's{_owner(found[0].inode)}"


def _users(pid: int) -> set[int]:
    """The ids of the user that a process runs as: real, effective, saved, for files."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()


@functools.lru_cache(maxsize=32)  # it is asked at each look, and goes through all processes
def _owner(inode: int) -> str:
    for name in os.listdir("/proc"):
        if name.isdigit() and inode in sockets_of([int(name)])[0]:
            return _process(int(name))
    return ""


def _process(pid: int) -> str:
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return f", process {pid} ({name})"
    return ""


def unix_stranger(connection: socket.socket, path: str, pids: Collection[int]) -> str | None:
    """Who has accepted a connection on a UNIX socket, if that is surely none of these processes."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(credentials)
    inodes, hidden = sockets_of(pids)
    if pid == 0 or pid in pids or hidden or not proc_is_ours() or _listen_on(path, inodes):
        return None
    return f"the socket is another program's{_process(pid)}"


def _listen_on(path: str, inodes: Collection[int]) -> bool:
    """Whether one of these sockets listens under this name, as it was made by somebody else."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
            _, _, _, flags, _, _, inode, *name = line.split(maxsplit=7)
            bound = name[0] if name else ""
            if int(flags, 16) & _ACCEPTS and int(inode) in inodes:
                return os.path.basename(bound) == os.path.basename(path.replace("\0", "@"))
    return False


def _address(text: str) -> Address:
    """An address as /proc/net shows it: words of 32 bits in the host's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return _mapped(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _plain(host: str) -> Address:
    return _mapped(ipaddress.ip_address(host.partition("%")[0]))


def _mapped(address: Address) -> Address:
    """An IPv4 address that is written as one of IPv6 is the IPv4 address."""
    return getattr(address, "ipv4_mapped", None) or address
