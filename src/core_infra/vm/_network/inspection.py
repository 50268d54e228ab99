"""Shows the frames of a network to functions of the test, which decide whether they are dropped."""

from __future__ import annotations

import contextlib
import struct
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._network.switch import Switch

_QUESTION = struct.Struct("=QQ")
_VERDICT = struct.Struct("=QQ")
_LARGEST = _QUESTION.size + 65536 + 64


class Inspection:
    """Decides about the frames of one network, on a thread of its own, until it is closed.

    The switch does not wait for it (``csrc/switch/inspection.c``): while *judge* takes its time,
    the machines of this network find it busy, and other networks do not notice.

    Args:
        switch: what shows the frames.
        network: the network's number in the switch.
        judge: whether a frame is dropped, by the number of the card that has sent it.
    """

    def __init__(self, switch: Switch, network: int, judge: Callable[[int, bytes], bool]) -> None:
        self._switch = switch
        self._network = network
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                switch.inspect(network, theirs)
            except BaseException:
                self._socket.close()
                raise
        args, name = (self._socket, judge), "core-infra-frames"
        threading.Thread(target=_serve, args=args, name=name, daemon=True).start()

    def close(self) -> None:
        """Let all frames pass, those that wait for a verdict, too; *judge* may still be at work."""
        try:
            self._switch.inspect(self._network, None)
        finally:
            with contextlib.suppress(OSError):  # the switch has ended, and so has the thread
                self._socket.shutdown(socket.SHUT_RDWR)


def _serve(connection: socket.socket, judge: Callable[[int, bytes], bool]) -> None:
    with connection:
        while True:
            try:
                packet = connection.recv(_LARGEST)
                if not packet:
                    return
                number, port = _QUESTION.unpack_from(packet)
                connection.send(_VERDICT.pack(number, judge(port, packet[_QUESTION.size :])))
            except OSError:
                return  # it was closed, or the switch has ended
