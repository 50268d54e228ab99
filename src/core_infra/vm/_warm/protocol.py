"""What a run and the warm helper say to each other, and where they meet.

A packet is a JSON object, with descriptors beside it. The socket's name has a digest of the code of
both sides: a helper that an older version of this package has started is only listed and ended.
And of what the helper has inherited from the run that has started it, since all machines have it
from the helper: a run in another container, control group or directory tree has another helper.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

from core_infra._binaries import BINARIES
from core_infra._unpatched import Path, os, socket
from core_infra.errors import UnavailableError
from core_infra.vm._run_directory import HELPERS, base_directory, connected

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PACKET = 128 * 1024
_MAX_FDS = 64
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_PEER = struct.Struct("3i")


def meeting_point() -> Path:
    """The path of the socket of the helper that suits this process."""
    code = (*sorted(Path(__file__).parent.glob("*.py")), *sorted(BINARIES.glob("forkserver*")))
    facts = [
        [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in code],
        [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES],
        os.readlink("/proc/self/root"),
        Path("/proc/self/cgroup").read_text(),
        Path("/proc/self/limits").read_text(),
        sorted(os.sched_getaffinity(0)),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.environ.get("LD_PRELOAD", ""),
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return base_directory() / HELPERS.replace("*", digest[:16])


def connect(path: Path) -> socket.socket | None:
    """A connection with the helper at *path*; None if there is none."""
    connection = connected(path)
    if connection is None or is_ours(connection):
        return connection
    connection.close()
    return None


def is_ours(sock: socket.socket) -> bool:
    """Whether the peer is a process of this user."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(found)[1] == os.getuid())


def send(sock: socket.socket, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send a packet."""
    socket.send_fds(sock, [json.dumps(packet).encode()], list(fds))


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next packet, and its descriptors, which the caller closes.

    Raises:
        UnavailableError: the peer has closed the connection, or does not know the protocol.
    """
    data, fds, flags, _ = socket.recv_fds(sock, MAX_PACKET, _MAX_FDS)
    is_whole = data and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
    try:
        packet = json.loads(data) if is_whole else None
    except ValueError:
        packet = None
    if not isinstance(packet, dict):
        close_all(fds)
        raise UnavailableError(
            "the warm helper does not answer",
            why="it has sent what is not a packet" if data else "it has closed the connection",
        )
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the os module's signature
    return packet, fds


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
