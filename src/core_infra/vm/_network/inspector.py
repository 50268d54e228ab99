"""Shows frames to functions of the test, which decide whether they are dropped."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._network.switch import Switch

_QUESTION = struct.Struct("=IIQ")
_VERDICT = struct.Struct("=IIQ")
_LARGEST = _QUESTION.size + 65536 + 64


class Inspector:
    """Decides about the frames of networks, on a thread of its own while there are any.

    Args:
        switch: what shows the frames.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._judges: dict[int, Callable[[int, bytes], bool]] = {}
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def start(self, network: int, judge: Callable[[int, bytes], bool]) -> None:
        """Let *judge(port, frame)* decide whether each frame of a network is dropped."""
        with self._lock:
            if self._socket is None:
                self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._switch.set_inspector(theirs)
                args = (self._socket,)
                name = "core-infra-frames"
                threading.Thread(target=self._serve, args=args, name=name, daemon=True).start()
            self._judges[network] = judge
        self._switch.inspect(network, on=True)

    def stop(self, network: int) -> None:
        """Let all frames of a network pass."""
        self._switch.inspect(network, on=False)
        self._judges.pop(network, None)

    def close(self) -> None:
        """End the thread."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while True:
                try:
                    packet = connection.recv(_LARGEST)
                    if not packet:
                        return
                    network, port, number = _QUESTION.unpack_from(packet)
                    judge = self._judges.get(network)
                    drop = judge is not None and judge(port, packet[_QUESTION.size :])
                    connection.send(_VERDICT.pack(network, drop, number))
                except OSError:
                    return  # the switch has ended
