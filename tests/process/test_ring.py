"""The ring keeps exactly the last bytes, at offsets that never lie."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core_infra.errors import InvalidError
from core_infra.process import RingBuffer


class RingAgainstAll(RuleBasedStateMachine):
    """The model keeps all that was ever written."""

    @initialize(size=st.integers(1, 40))
    def begin(self, size: int) -> None:
        self.size = size
        self.ring = RingBuffer(size)
        self.written = b""
        self.forgotten = 0

    @property
    def kept(self) -> bytes:
        return self.written[max(self.forgotten, len(self.written) - self.size) :]

    @rule(data=st.binary(max_size=100))
    def write(self, data: bytes) -> None:
        assert self.ring.write(data) == len(data)
        self.written += data

    @rule()
    def reset(self) -> None:
        self.ring.reset()
        self.forgotten = len(self.written)

    @rule(data=st.data())
    def read_from_anywhere(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, len(self.written)))
        piece = self.ring.read(offset)
        first = max(offset, len(self.written) - len(self.kept))
        assert piece.data == self.written[first:]
        assert piece.lost == first - offset
        assert piece.end == len(self.written)

    @rule(beyond=st.integers(1, 5))
    def read_the_future(self, beyond: int) -> None:
        with pytest.raises(InvalidError):
            self.ring.read(len(self.written) + beyond)

    @invariant()
    def agree(self) -> None:
        assert bytes(self.ring) == self.kept
        assert len(self.ring) == len(self.kept)
        assert str(self.ring) == self.kept.decode(errors="replace")
        assert self.ring.end - self.ring.start == len(self.kept)
        assert self.ring.cap == self.size


TestRing = RingAgainstAll.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=30)


def test_no_ring_without_bytes() -> None:
    with pytest.raises(InvalidError, match="0 bytes"):
        RingBuffer(0)


def test_a_large_ring_takes_memory_only_as_it_fills() -> None:
    ring = RingBuffer(1 << 50)
    ring.write(b"small")
    assert bytes(ring) == b"small"


def test_a_reader_that_follows_gets_every_byte_or_is_told_how_many_it_lost() -> None:
    ring = RingBuffer(1000)
    total = 300_000

    def write() -> None:
        for number in range(total // 100):
            ring.write(number.to_bytes(4, "big") * 25)
        ring.close()

    writer = threading.Thread(target=write)
    writer.start()
    offset = received = lost = 0
    while ring.wait(offset, 30):
        piece = ring.read(offset)
        for at in range(-(offset + piece.lost) % 100, len(piece.data) - 99, 100):
            number = (offset + piece.lost + at) // 100
            assert piece.data[at : at + 100] == number.to_bytes(4, "big") * 25
        received += len(piece.data)
        lost += piece.lost
        offset = piece.end
    writer.join()
    assert received + lost == offset == total


def test_waiting_ends_with_the_time_and_with_the_ring() -> None:
    ring = RingBuffer()
    assert not ring.wait(0, 0.001)
    ring.close()
    assert not ring.wait(0)
    ring.write(b"late")
    assert ring.wait(0)
