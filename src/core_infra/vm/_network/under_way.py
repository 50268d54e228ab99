"""The frames that are under way on a network, for a copy of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECORD = struct.Struct("=IIQII")


class FrameUnderWay(NamedTuple):
    """A frame that was sent, and has not arrived.

    Attributes:
        source: the machine that has sent it; empty if it is only waiting to be read.
        target: the machine that gets it.
        left: nanoseconds until then.
        data: its bytes.
    """

    source: str
    target: str
    left: int
    data: bytes


Frames = tuple[FrameUnderWay, ...]


def unpack(dump: bytes, names: Mapping[int, str]) -> Frames:
    """The frames that the switch has written; *names*: the machine of each card."""
    frames = []
    at = 0
    while at < len(dump):
        source, target, left, length, _ = _RECORD.unpack_from(dump, at)
        at += _RECORD.size
        data = dump[at : at + length]
        at += length
        if target in names:
            frames.append(FrameUnderWay(names.get(source, ""), names[target], left, data))
    return tuple(frames)


def pack(frames: Frames, cards: Mapping[str, int]) -> bytes:
    """The frames for the switch; *cards*: the card of each machine."""
    parts = []
    for frame in frames:
        if frame.target in cards:
            source = cards.get(frame.source, 0)
            length = len(frame.data)
            parts.append(_RECORD.pack(source, cards[frame.target], frame.left, length, 0))
            parts.append(frame.data)
    return b"".join(parts)
