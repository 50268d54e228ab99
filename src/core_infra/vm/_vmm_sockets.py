"""The sockets between this process and a VMM process: monitor, console, agent, network cards."""

from __future__ import annotations

from core_infra._unpatched import socket

CONNECTIONS = ("monitor", "console", "agent")
"""The connections that each machine has."""

_SO_PEEK_OFF = 42  # Linux's; Python has no name for it
_MAX_FRAME = 1 << 17


class SocketPairs:
    """Both ends of a machine's connections until the hypervisor has its own.

    Args:
        cards: how many network cards it has.

    Attributes:
        ours: our ends, by name.
        cards: the names of the network cards.
    """

    def __init__(self, cards: int) -> None:
        self.ours: dict[str, socket.socket] = {}
        self.cards = [f"card{number}" for number in range(cards)]
        self._theirs: dict[str, socket.socket] = {}
        try:
            for name in CONNECTIONS:
                self.ours[name], self._theirs[name] = socket.socketpair()
            for name in self.cards:  # a message is a frame
                pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.ours[name], self._theirs[name] = pair
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors of the hypervisor's ends, by name."""
        return {name: sock.fileno() for name, sock in self._theirs.items()}

    def take_cards(self) -> list[socket.socket]:
        """The hypervisor's ends of its cards: what is in them can be looked at."""
        return [self._theirs.pop(name) for name in self.cards]

    def inherited(self) -> None:
        """The hypervisor has its ends: close our copies, so that its end is noticed."""
        for name, sock in self._theirs.items():
            if name not in self.cards:
                sock.close()

    def close(self) -> None:
        """Close everything."""
        for sock in (*self._theirs.values(), *self.ours.values()):
            sock.close()


def peek_messages(sock: socket.socket) -> list[bytes]:
    """All messages in a packet socket, which stay there; none of them is empty."""
    frames = []
    sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    try:
        while frame := sock.recv(_MAX_FRAME, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            frames.append(frame)
    except BlockingIOError:
        pass
    finally:
        sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)
    return frames  # if the other end was closed, nothing follows
