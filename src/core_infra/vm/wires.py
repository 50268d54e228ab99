"""The connections between a machine and the process that started it.

Normally each is a socketpair, of which the hypervisor inherits one end: no name, no path-length
limit, nothing to remove, and nobody else can connect. A machine that is to outlive this process
gets named UNIX sockets instead, which can be connected to again later.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from core_infra.vm.hypervisors.hypervisor import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("monitor", "console", "agent")


class Wires:
    """Both ends of a machine's connections until the hypervisor has inherited its own.

    Args:
        directory: where to put named sockets (``monitor.sock``, …); None for socketpairs.
    """

    def __init__(self, directory: Path | None) -> None:
        self.ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        self._listening = directory is not None
        try:
            for name in NAMES:
                if directory is None:
                    self.ours[name], self._theirs[name] = socket.socketpair()
                else:
                    self._name(name, directory / f"{name}.sock")
        except BaseException:
            self.close()
            raise

    def wire(self, name: str) -> Wire:
        """The hypervisor's end of one connection."""
        return Wire(self._theirs[name].fileno(), self._listening)

    def fds(self) -> list[int]:
        """The descriptors that the hypervisor must inherit."""
        return [sock.fileno() for sock in self._theirs.values()]

    def inherited(self) -> None:
        """The hypervisor has its ends: close our copies, so that its end is noticed."""
        for sock in self._theirs.values():
            sock.close()

    def close(self) -> None:
        """Close everything."""
        self.inherited()
        for sock in self.ours.values():
            sock.close()

    def _name(self, name: str, path: Path) -> None:
        server = self._theirs[name] = socket.socket(socket.AF_UNIX)
        client = self.ours[name] = socket.socket(socket.AF_UNIX)
        with short_path(path) as address:
            server.bind(address)
            server.listen(1)
            client.connect(address)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A short name of a UNIX socket, whatever its directory's: the kernel allows 107 bytes."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
