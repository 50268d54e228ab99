"""Listening sockets, and the processes that have them, from /proc."""

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
"""By the version of an address: other addresses whose listeners may accept a connection to it."""


class Listener(NamedTuple):
    """A socket that listens for TCP connections.

    Attributes:
        address: of the interface; unspecified for all.
        port: its port.
        user: the id of the user who created it.
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
    """Whether there is a /proc of our PID namespace, not of another one."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def listeners() -> Iterator[Listener]:
    """All TCP listeners of this network namespace; none without /proc."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, user, _, inode, *_ = line.split()
                if state == _LISTENS:
                    host, _, port = local.partition(":")
                    yield Listener(_address(host), int(port, 16), int(user), int(inode))


def sockets_of(pids: Collection[int]) -> tuple[set[int], set[int]]:
    """The inodes of the sockets of processes, and the users of processes that may not be read."""
    inodes, hidden = set(), set()
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, number = os.readlink(entry.path).partition(":")
                    if kind == "socket":
                        inodes.add(int(number.strip("[]")))
        except PermissionError:
            if _has_memory(pid):
                hidden |= _users(pid)
        except OSError:
            pass  # it has ended
    return inodes, hidden


def accepting(connection: socket.socket) -> list[Listener]:
    """The listeners that may have accepted a connection; none if that cannot be found out.

    It cannot for a server on another host or in another network namespace, for a port that the
    kernel forwards, and without a /proc of our PID namespace.
    """
    here, there = connection.getsockname(), connection.getpeername()
    address, port = _plain(there[0]), there[1]
    if _plain(here[0]) != address and not address.is_loopback:
        return []  # not of this host
    if not proc_is_ours():
        return []
    found = [one for one in listeners() if one.port == port]
    # The kernel's order: a listener on :: accepts IPv4 as well, if there is none on 0.0.0.0.
    for choice in (address, *_EVERYWHERE[address.version]):
        if chosen := [one for one in found if one.address == choice]:
            return chosen
    return []


def foreign_listener(connection: socket.socket, pids: Collection[int]) -> str | None:
    """Describe the program that accepted a connection, if it is certainly not one of *pids*.

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


def _has_memory(pid: int) -> bool:
    """Whether a process has not ended: one that ends gives up its memory before its descriptors.

    From then on its ``/proc/PID/fd`` belongs to root, whoever it ran as.
    """
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/statm").read_text().split()[0] != "0"
    return False


def _users(pid: int) -> set[int]:
    """The user ids of a process: real, effective, saved, for files."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()


@functools.lru_cache(maxsize=32)  # called at each check, and it reads all processes
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


def foreign_unix_listener(
    connection: socket.socket, path: str, pids: Collection[int]
) -> str | None:
    """As :func:`foreign_listener`, of a connection on the UNIX socket *path*."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(credentials)
    inodes, hidden = sockets_of(pids)
    if pid == 0 or pid in pids or hidden or not proc_is_ours() or _listen_on(path, inodes):
        return None
    return f"the socket is another program's{_process(pid)}"


def _listen_on(path: str, inodes: Collection[int]) -> bool:
    """Whether one of these sockets, created by another process, listens on this name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
            _, _, _, flags, _, _, inode, *name = line.split(maxsplit=7)
            bound = name[0] if name else ""
            if int(flags, 16) & _ACCEPTS and int(inode) in inodes:
                return os.path.basename(bound) == os.path.basename(path.replace("\0", "@"))
    return False


def _address(text: str) -> Address:
    """Parse an address of /proc/net: words of 32 bits in the host's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return _mapped(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _plain(host: str) -> Address:
    return _mapped(ipaddress.ip_address(host.partition("%")[0]))


def _mapped(address: Address) -> Address:
    """The IPv4 address of one that is mapped to IPv6; others unchanged."""
    return getattr(address, "ipv4_mapped", None) or address
