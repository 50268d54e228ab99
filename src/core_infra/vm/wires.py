"""The connections of a hypervisor: socketpairs, of which it inherits one end each.

No path, no port: nothing collides, and nothing is left to clean up.
"""

from __future__ import annotations

from core_infra.process.real import socket

NAMES = ("monitor", "console", "agent")


class Wires:
    """Both ends of a machine's connections until the hypervisor has its own.

    Attributes:
        ours: our ends, by name.
    """

    def __init__(self) -> None:
        self.ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        try:
            for name in NAMES:
                self.ours[name], self._theirs[name] = socket.socketpair()
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors of the hypervisor's ends, by name."""
        return {name: sock.fileno() for name, sock in self._theirs.items()}

    def inherited(self) -> None:
        """The hypervisor has its ends: close our copies, so that its end is noticed."""
        for sock in self._theirs.values():
            sock.close()

    def close(self) -> None:
        """Close everything."""
        self.inherited()
        for sock in self.ours.values():
            sock.close()
