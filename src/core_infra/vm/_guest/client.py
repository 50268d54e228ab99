"""What the host asks the guest agent to do, and the answers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.vm._guest.connection import AgentConnection
from core_infra.vm._guest.protocol import (
    Frame,
    FrameType,
    HelloAck,
    ProtocolError,
    encode_cards,
    encode_exec,
    encode_size,
    encode_thaw,
)
from core_infra.vm._guest.results import raise_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.vm._guest.channel import Channel
    from core_infra.vm._guest.protocol import CardAddresses

KEEP_MODE = 0xFFFFFFFF
"""For :meth:`AgentClient.open_write`: the replaced file's mode, or 0644 for a new one."""


class AgentClient(AgentConnection):
    """The requests that a guest agent answers, over the connection with it."""

    def hello(self, timeout: float, hopeless: Callable[[], object] = lambda: False) -> HelloAck:
        """Begin a session, as :meth:`greet`, and set the guest's clock.

        The clock follows in a message of its own, since the greeting may wait for a whole boot.
        """
        ack = self.greet(timeout, hopeless)
        self.set_clock(time.time_ns())
        return ack

    def freeze(self, timeout: float = 30.0) -> None:
        """Stop all other processes of the guest, unseen by them, until :meth:`thaw`.

        Raises:
            GuestOperationError: the guest's kernel cannot (cgroup v2 of Linux 5.2 is needed), or a
                process does not stop; then all of them continue.
        """
        self._request(FrameType.FREEZE, b"", timeout)

    def set_cards(self, cards: Sequence[CardAddresses], hosts: str, timeout: float = 30.0) -> None:
        """Set up the guest's cards on networks of the run, and its names of other machines.

        Args:
            cards: the cards to set; others stay as they are.
            hosts: lines for /etc/hosts, in place of those of the last call.
            timeout: seconds until the guest must have answered.

        Raises:
            GuestOperationError: the guest has no such card, or cannot set it.
        """
        self._request(FrameType.CARDS, encode_cards(cards, hosts), timeout)

    def thaw(
        self, *, hostname: str = "", machine_id: str = "", mac: bytes = b"", timeout: float = 30.0
    ) -> None:
        """Give the guest an identity of its own, then resume its processes.

        Args:
            hostname: also written to /etc/hostname; empty: as it is.
            machine_id: written to /etc/machine-id; empty: as it is.
            mac: six bytes, for eth0 if the guest has one; empty: as it is.
            timeout: seconds until the guest must have answered.

        Raises:
            GuestOperationError: something could not be set; the processes are still stopped.
        """
        identity = _identity(hostname, machine_id, mac)
        self._request(FrameType.THAW, identity, timeout)

    def resume(
        self,
        *,
        hostname: str = "",
        machine_id: str = "",
        mac: bytes = b"",
        cards: bytes = b"",
        timeout: float,
    ) -> Resumed:
        """Greet a guest that was just resumed from a snapshot, and :meth:`thaw` it, in one step.

        Both are sent before either is answered, so nothing of a former session may be in the
        stream. The greeting sets the clock, and an emulated guest is slow until it has translated
        what it runs: so it must have answered a ping before.

        Raises:
            TimeoutExpiredError: the agent did not answer within *timeout* seconds.
            UnavailableError: the clock or the random generator could not be set.
            GuestOperationError: as :meth:`thaw` says.
            GuestGoneError: the machine ended first.
        """
        deadline = time.monotonic() + timeout
        identity = _identity(hostname, machine_id, mac, cards)
        self.ping(timeout)
        sent = time.time_ns()
        self._send(self._greeting(sent))
        thawed = self._open(FrameType.THAW, identity)
        ack = self._greeted(deadline - time.monotonic())
        raise_failure(thawed.result(deadline), "thaw")
        return Resumed(ack, sent, self._greeted_ns)

    def open_exec(
        self,
        argv: Sequence[bytes],
        *,
        env: Mapping[bytes, bytes],
        cwd: bytes,
        user: bytes,
        no_input: bool = False,
    ) -> Channel:
        """Start a program in the guest; *no_input*: its standard input is empty."""
        payload = encode_exec(argv, env=env, cwd=cwd, user=user)
        return self._open(FrameType.EXEC, payload, no_input=no_input)

    def open_terminal(
        self,
        argv: Sequence[bytes],
        *,
        env: Mapping[bytes, bytes],
        cwd: bytes,
        user: bytes,
        size: tuple[int, int],
    ) -> Channel:
        """Start a program on a terminal of the guest; *size* is its rows and columns."""
        payload = encode_size(*size) + encode_exec(argv, env=env, cwd=cwd, user=user)
        return self._open(FrameType.TERMINAL, payload)

    def open_read(self, path: bytes) -> Channel:
        """Read a file of the guest; its bytes come as stdout."""
        return self._open(FrameType.READ, struct.pack("<I", len(path)) + path)

    def open_write(self, path: bytes, mode: int = KEEP_MODE) -> Channel:
        """Write a file in the guest: its input becomes the file when the input is closed."""
        return self._open(FrameType.WRITE, struct.pack("<II", mode, len(path)) + path)

    def set_clock(self, clock_ns: int, timeout: float = 30.0, *, rate: float | None = None) -> None:
        """Set the guest's wall clock, in nanoseconds since the epoch.

        Args:
            clock_ns: the time.
            timeout: seconds until the agent must have answered.
            rate: of the guest's clocks; None: as it is.
        """
        payload = struct.pack("<Q", clock_ns)
        if rate is not None:
            payload += struct.pack("<q", round((rate - 1) * 1e9))
        self._request(FrameType.CLOCK, payload, timeout)

    def reseed(self, entropy: bytes, timeout: float = 30.0) -> None:
        """Mix *entropy* into the guest's random generator and make it reseed at once."""
        self._request(FrameType.RESEED, entropy, timeout)

    def bind(self) -> None:
        """End commands when this connection closes; serve the agent's other ports, too."""
        self._send(Frame(FrameType.BIND, 0))

    def poweroff(self, *, restart: bool = False) -> None:
        """Make the guest sync its disks and power off, or restart; does not wait for it."""
        self._send(Frame(FrameType.POWEROFF, 0, b"\1" if restart else b"\0"))


def _identity(hostname: str, machine_id: str, mac: bytes, cards: bytes = b"") -> bytes:
    return encode_thaw(
        hostname=hostname.encode(), machine_id=machine_id.encode(), mac=mac, cards=cards
    )


@dataclass(frozen=True, slots=True)
class Resumed:
    """The answer of a clone's agent, and when it came.

    Attributes:
        ack: its ``info`` has ``former``, ``random`` and ``clock``, the proofs of a good clone.
        sent_ns: the host's wall clock when the greeting, with that time in it, was sent.
        received_ns: the host's wall clock when the answer had come.
    """

    ack: HelloAck
    sent_ns: int
    received_ns: int

    @property
    def clock_error_ns(self) -> int:
        """The most that the guest's wall clock can be off the host's.

        The guest read its clock at an unknown moment between *sent* and *received*; so this is
        never less than half of the time that passed between them.

        Raises:
            ProtocolError: the agent reported no time.
        """
        clock = self.ack.info.get("clock", "")
        if not (clock.isascii() and clock.isdigit()):
            raise ProtocolError(f"the guest agent reported {clock!r} as its clock")
        return max(int(clock) - self.sent_ns, self.received_ns - int(clock))
