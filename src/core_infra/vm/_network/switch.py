"""The switch: one process that moves the frames of all networks of a launcher.

``csrc/switch/switch.h`` describes it. It ends when its control socket closes, however this process
ends.
"""

from __future__ import annotations

import array
import enum
import itertools
import struct
import threading
from typing import TYPE_CHECKING

from core_infra._binaries import host_program
from core_infra._unpatched import os, socket
from core_infra.errors import UnavailableError
from core_infra.process._child import spawn
from core_infra.vm._network.link_settings import LinkSettings

if TYPE_CHECKING:
    from pathlib import Path

_REQUEST = struct.Struct("=IIII QQQQ IIII Q 64s")
_ANSWER = struct.Struct("=Q")
_QUIET = 1 << 31


class Operation(enum.IntEnum):
    """What a request asks for; see ``csrc/switch/control.c``."""

    OPEN = 1
    CLOSE = 2
    LINK = 3
    CUT = 4
    CAPTURE = 5
    INSPECT = 6
    HOLD = 7
    UNREAD = 8
    DRAIN = 9
    DUMP = 10
    LOAD = 11
    REMOVE = 12
    STAY = 13
    SYNC = 14


_PLAIN = LinkSettings().requested()


class Switch:
    """A running switch; threads may share it.

    Args:
        die_with_parent: the kernel ends it with this process. Otherwise it ends when the control
            socket closes, or later: see :meth:`stay`.
    """

    def __init__(self, *, die_with_parent: bool = True) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._child = spawn(
                [str(switch_program()), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                die_with_parent=die_with_parent,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._lock = threading.Lock()
        self._networks = itertools.count(1)
        self._ports = itertools.count(1)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def new_network(self) -> int:
        """The number of a new network."""
        return next(self._networks)

    def new_port(self) -> int:
        """The number of a new card, unique in the switch."""
        return next(self._ports)

    def open(self, network: int, port: int, name: str, card: socket.socket) -> None:
        """Connect a card, or connect it again with another process; takes the socket."""
        with card:
            self._post(Operation.OPEN, network, port, name=name, fd=card.fileno())

    def close_port(self, network: int, port: int) -> None:
        """Remove a card."""
        self._post(Operation.CLOSE, network, port)

    def set_link(self, network: int, source: int, target: int, settings: LinkSettings) -> None:
        """Set what happens between two cards; :meth:`sync` waits until it does."""
        self._post(Operation.LINK, network, source, target, settings.requested())

    def set_cut(self, network: int, source: int, target: int, *, cut: bool) -> None:
        """Set whether nothing passes between two cards; :meth:`sync` waits until it does."""
        self._post(Operation.CUT, network, source, target, value=cut)

    def sync(self) -> None:
        """Return when all former requests are done."""
        self._ask(Operation.SYNC, 0)

    def capture(self, network: int, file: int | None) -> int:
        """Write all frames to a file; None: no more.

        Args:
            network: the network.
            file: a descriptor of the file.

        Returns:
            The number of the error that has ended the former capture early; 0: none has.
        """
        return self._ask(Operation.CAPTURE, network, fd=file)

    def inspect(self, network: int, inspector: socket.socket | None) -> None:
        """Show each frame of a network on a packet socket, and wait for its verdict; None: no more.

        Frames that wait for a verdict pass when the inspection ends.
        """
        self._ask(Operation.INSPECT, network, fd=None if inspector is None else inspector.fileno())

    def hold(self, network: int, *, on: bool) -> None:
        """Set whether frames are kept, and the time of their delays stands still."""
        self._ask(Operation.HOLD, network, value=on)

    def unread(self, network: int) -> int:
        """More than 0 while machines have not read all that was delivered to them."""
        return self._ask(Operation.UNREAD, network)

    def drain(self, network: int) -> None:
        """Read all that machines have sent."""
        self._ask(Operation.DRAIN, network)

    def dump(self, network: int) -> bytes:
        """The frames that are under way, for :meth:`load`."""
        with os.fdopen(os.memfd_create("frames"), "r+b") as file:
            self._ask(Operation.DUMP, network, fd=file.fileno())
            file.seek(0)
            return file.read()

    def load(self, network: int, frames: bytes) -> None:
        """Add frames to a network that is held."""
        with os.fdopen(os.memfd_create("frames"), "w+b") as file:
            file.write(frames)
            file.seek(0)
            self._ask(Operation.LOAD, network, fd=file.fileno())

    def remove(self, network: int) -> None:
        """Remove a network with all its cards."""
        self._post(Operation.REMOVE, network)

    def stay(self) -> None:
        """When this process ends, let the switch run until the last machine has ended."""
        self._ask(Operation.STAY, 0)

    def close(self, *, stays: bool = False) -> None:
        """End it; *stays*: only when the last machine has ended."""
        self._control.close()
        if not stays:
            self._child.kill()

    def _post(
        self,
        operation: Operation,
        network: int,
        source: int = 0,
        target: int = 0,
        settings: tuple[int, ...] = _PLAIN,
        *,
        value: int = 0,
        name: str = "",
        fd: int | None = None,
    ) -> None:
        """Send a request that is not answered."""
        with self._lock:
            self._send(
                operation | _QUIET, network, source, target, *settings, value, _cut(name), fd=fd
            )

    def _ask(
        self, operation: Operation, network: int, value: int = 0, fd: int | None = None
    ) -> int:
        with self._lock:
            self._send(operation, network, 0, 0, *_PLAIN, value, b"", fd=fd)
            try:
                answer = self._control.recv(_ANSWER.size)
            except OSError as error:
                raise self._gone() from error
        if len(answer) != _ANSWER.size:
            raise self._gone()
        return int(_ANSWER.unpack(answer)[0])

    def _send(self, *fields: int | bytes, fd: int | None) -> None:
        rights = [] if fd is None else [array.array("i", [fd])]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, one) for one in rights]
        try:
            self._control.sendmsg([_REQUEST.pack(*fields)], ancillary)
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> UnavailableError:
        return UnavailableError(
            "the networks of the machines are gone", why="the process that switches them has ended"
        )


def _cut(name: str) -> bytes:
    return name.encode()[:63]


def switch_program() -> Path:
    """The program.

    Raises:
        UnavailableError: it was not compiled for this host.
    """
    return host_program("switch", "switch for networks of machines")
