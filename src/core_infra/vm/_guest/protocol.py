"""The protocol between host and guest agent: frames, and the codec for them.

``docs/agent-protocol.md`` describes the protocol and its reasons; the guest's side is
``agent/`` beside this file. A frame is a 12-byte header and a payload, little-endian::

    0  2  magic    b"CI"
    2  1  version  1
    3  1  type     one of FrameType
    4  4  channel  0 for the connection itself, else the number that the host gave a request
    8  4  length   of the payload

This module does no input or output: bytes in, frames out, and the other way round.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from ipaddress import IPv4Address, IPv6Address

PROTOCOL_VERSION = 1
MAGIC = b"CI"
HEADER = struct.Struct("<2sBBII")

MAX_DATA = 64 * 1024
"""The most bytes that one frame of file or stream data carries."""

MAX_PAYLOAD = 4 * 1024 * 1024
"""The most bytes that any frame carries (an EXEC with all its arguments)."""

WINDOW = 256 * 1024
"""Bytes of one stream that may be under way before the receiver grants more."""

PORT_NAME = "org.core-infra.agent.0"
"""The name of the virtio-serial port that the agent listens on."""

AGENT_PORTS = 8
"""The most ports of the agent in a machine that persists: each serves one session at a time."""


def port_name(number: int) -> str:
    """The name of one of the agent's virtio-serial ports, 0 to 9."""
    return f"{PORT_NAME[:-1]}{number}"


class FrameType(enum.IntEnum):
    """What a frame says; the high bit is set on what the guest sends."""

    HELLO = 0x01
    EXEC = 0x02
    DATA = 0x03
    EOF = 0x04
    SIGNAL = 0x05
    GRANT = 0x06
    READ = 0x07
    WRITE = 0x08
    CLOCK = 0x09
    RESEED = 0x0A
    POWEROFF = 0x0B
    PING = 0x0C
    FREEZE = 0x0D
    THAW = 0x0E
    BIND = 0x0F
    CARDS = 0x10
    TERMINAL = 0x11
    RESIZE = 0x12

    HELLO_ACK = 0x81
    STARTED = 0x82
    STDOUT = 0x83
    STDERR = 0x84
    DONE = 0x85
    STDIN_GRANT = 0x86
    PONG = 0x8C
    PROTOCOL_ERROR = 0x8F


class Outcome(enum.IntEnum):
    """How a request ended; the first byte of DONE."""

    EXITED = 0
    SIGNALED = 1
    FAILED = 2


class ProtocolError(InvalidError):
    """Bytes that are not this protocol, or not of a version that this side speaks."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the protocol."""

    type: int
    channel: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as bytes; ProtocolError if the payload is too long."""
        if len(self.payload) > MAX_PAYLOAD:
            raise ProtocolError(
                f"cannot send a frame of {len(self.payload)} bytes",
                why=f"one frame carries at most {MAX_PAYLOAD} bytes",
                todo="Pass large data through standard input or a file instead of arguments.",
            )
        size = len(self.payload)
        return HEADER.pack(MAGIC, PROTOCOL_VERSION, self.type, self.channel, size) + self.payload


class FrameDecoder:
    """Cuts a byte stream into frames, however the stream was cut into pieces.

    After :class:`ProtocolError` the decoder stays broken: a stream that lost its frames cannot
    be trusted further down. The one way to begin again is a new session (HELLO), for which
    :meth:`seek_hello` drops everything up to that session's acknowledgement.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._nonce: bytes | None = None
        self._error: ProtocolError | None = None

    def seek_hello(self, nonce: bytes) -> None:
        """Forget what came so far; ignore all bytes before the HELLO_ACK that repeats *nonce*."""
        self._buffer.clear()
        self._nonce = nonce
        self._error = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame that *data* completes; raises ProtocolError on anything else."""
        if self._error is not None:
            raise self._error
        self._buffer += data
        if self._nonce is not None and not self._find_ack(self._nonce):
            return
        yield from self._frames()

    def _find_ack(self, nonce: bytes) -> bool:
        # What a former session left in the pipe may stop in the middle of a frame, so we look for
        # the acknowledgement's bytes rather than for frames.
        start = HEADER.pack(MAGIC, PROTOCOL_VERSION, FrameType.HELLO_ACK, 0, 0)[:8]
        while (at := self._buffer.find(start)) >= 0:
            if len(self._buffer) < at + HEADER.size + len(nonce):
                del self._buffer[:at]
                return False
            if self._buffer.startswith(nonce, at + HEADER.size):
                del self._buffer[:at]
                self._nonce = None
                return True
            del self._buffer[: at + 1]
        del self._buffer[: -len(start)]
        return False

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= HEADER.size:
            magic, version, kind, channel, length = HEADER.unpack_from(self._buffer)
            if magic != MAGIC or version != PROTOCOL_VERSION or length > MAX_PAYLOAD:
                head = bytes(self._buffer[: HEADER.size])
                self._error = ProtocolError(
                    f"the guest agent sent {head!r}, which is not a frame header",
                    why=f"expected {MAGIC!r}, version {PROTOCOL_VERSION}, length <= {MAX_PAYLOAD}",
                    todo="An image built by another version of core-infra? Rebuild the image.",
                )
                raise self._error
            if len(self._buffer) < HEADER.size + length:
                return
            payload = bytes(self._buffer[HEADER.size : HEADER.size + length])
            del self._buffer[: HEADER.size + length]
            yield Frame(kind, channel, payload)


def _text(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def encode_exec(
    argv: Sequence[bytes],
    *,
    env: Mapping[bytes, bytes],
    cwd: bytes = b"",
    user: bytes = b"",
) -> bytes:
    """The payload of EXEC: user, cwd, then counted lists of arguments and KEY=VALUE pairs."""
    pairs = [name + b"=" + value for name, value in env.items()]
    parts = [_text(user), _text(cwd), struct.pack("<I", len(argv)), *map(_text, argv)]
    parts += [struct.pack("<I", len(pairs)), *map(_text, pairs)]
    return b"".join(parts)


def encode_size(rows: int, columns: int) -> bytes:
    """The size of a terminal: the payload of RESIZE, and the beginning of TERMINAL."""
    return struct.pack("<II", rows, columns)


def encode_hello(nonce: bytes, *, clock_ns: int, entropy: bytes) -> bytes:
    """The payload of HELLO: 16 bytes of nonce, the wall clock (0 = leave it), entropy."""
    return struct.pack("<16sQ", nonce, clock_ns) + entropy


def encode_thaw(*, hostname: bytes, machine_id: bytes, mac: bytes, cards: bytes = b"") -> bytes:
    """The payload of THAW: host name, machine-id, the 6 bytes of a MAC; empty = leave it.

    A payload of CARDS may follow the MAC.
    """
    return _text(hostname) + _text(machine_id) + mac + cards


@dataclass(frozen=True, slots=True)
class CardAddresses:
    """What a card of a machine is set to.

    Attributes:
        card: its number.
        mac: its hardware address.
        ipv4: its address and the length of the network's prefix.
        ipv6: the same.
        gateway: where everything else is sent to; None: nowhere.
    """

    card: int
    mac: bytes
    ipv4: tuple[IPv4Address, int]
    ipv6: tuple[IPv6Address, int]
    gateway: IPv4Address | None = None

    def encode(self) -> bytes:
        """Its part of the payload of CARDS."""
        return b"".join(
            (
                struct.pack("<I", self.card) + self.mac,
                self.ipv4[0].packed + bytes([self.ipv4[1]]),
                self.ipv6[0].packed + bytes([self.ipv6[1]]),
                bytes(4) if self.gateway is None else self.gateway.packed,
            )
        )


def encode_cards(cards: Sequence[CardAddresses], hosts: str) -> bytes:
    """The payload of CARDS: counted cards, then lines for /etc/hosts."""
    parts = [card.encode() for card in cards]
    return struct.pack("<I", len(parts)) + b"".join(parts) + _text(hosts.encode())


_DONE = struct.Struct("<BIQ")
_LAST_SIGNAL = 64
_LAST_CODE = 4095  # an exit code, or the kernel's largest errno


@dataclass(frozen=True, slots=True)
class Done:
    """How a request ended: exit code, signal number or errno, and the guest's own duration."""

    outcome: Outcome
    code: int
    duration_ns: int
    message: str

    @classmethod
    def decode(cls, payload: bytes) -> Done:
        """Parse the payload of DONE; ProtocolError if it is too short or of an unknown outcome."""
        try:
            outcome, code, duration = _DONE.unpack_from(payload)
            text = payload[_DONE.size :].decode("utf-8", "replace")
            done = cls(Outcome(outcome), code, duration, text)
        except (struct.error, ValueError) as error:
            raise ProtocolError(f"bad DONE payload {payload[:64]!r}", why=str(error)) from error
        if code > (_LAST_SIGNAL if done.outcome is Outcome.SIGNALED else _LAST_CODE):
            raise ProtocolError(f"bad DONE payload {payload[:64]!r}", why=f"{code} is not a code")
        return done


@dataclass(frozen=True, slots=True)
class HelloAck:
    """What the agent says of itself when a session begins."""

    nonce: bytes
    info: Mapping[str, str]

    @classmethod
    def decode(cls, payload: bytes) -> HelloAck:
        """Parse the payload of HELLO_ACK: 16 bytes of nonce, then ``key=value`` lines."""
        if len(payload) < 16:  # noqa: PLR2004 - the nonce, see above
            raise ProtocolError(f"bad HELLO_ACK payload {payload!r}", why="shorter than a nonce")
        lines = payload[16:].decode("utf-8", "replace").split("\n")
        return cls(payload[:16], dict(line.split("=", 1) for line in lines if "=" in line))
