"""The guest agent gets bytes that make no sense, and recovers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_process import NONCE, Agent
from core_infra.vm._guest.protocol import (
    MAX_DATA,
    MAX_PAYLOAD,
    WINDOW,
    Frame,
    FrameType,
    encode_exec,
    encode_hello,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


ECHO = encode_exec([b"/bin/echo", b"hello"], env={b"A": b"b"})
HUGE = 0xFFFFFFFF


@pytest.mark.parametrize(
    "data",
    [
        b"CX\x01\x0c" + bytes(8),
        b"CI\x02\x0c" + bytes(8),
        b"CI\x01\x0c" + words(0, MAX_PAYLOAD + 1),
        b"CI\x01\x0c" + words(0, HUGE),
        Frame(0x7F, 0).encode(),
        Frame(FrameType.PONG, 0).encode(),
        Frame(FrameType.PING, 0, bytes(MAX_DATA + 1)).encode(),
        Frame(FrameType.HELLO, 0, bytes(23)).encode(),
        Frame(FrameType.HELLO, 0, bytes(24 + 4097)).encode(),
        Frame(FrameType.HELLO, 3, bytes(24)).encode(),
        Frame(FrameType.EXEC, 0, ECHO).encode(),
        Frame(FrameType.EXEC, 1, ECHO).encode(),
        Frame(FrameType.READ, 1, words(1) + b"/").encode(),
        Frame(FrameType.WRITE, 1, words(0, 1) + b"/").encode(),
        Frame(FrameType.EXEC, 2, ECHO[:-1]).encode(),
        Frame(FrameType.EXEC, 2, ECHO + b"x").encode(),
        Frame(FrameType.EXEC, 2, words(0, 0, 0, 0)).encode(),
        Frame(FrameType.EXEC, 2, words(0, 0, HUGE, 0)).encode(),
        Frame(FrameType.EXEC, 2, words(HUGE, 0, 1, 0)).encode(),
        Frame(FrameType.EXEC, 2, encode_exec([b"a\0b"], env={})).encode(),
        Frame(FrameType.READ, 2, words(HUGE) + b"/").encode(),
        Frame(FrameType.WRITE, 2, words(0)).encode(),
        Frame(FrameType.DATA, 1, bytes(MAX_DATA + 1)).encode(),
        # One more is granted, for what fits into the pipe of a command that does not read.
        Frame(FrameType.DATA, 1, bytes(MAX_DATA)).encode() * (WINDOW // MAX_DATA + 2),
        Frame(FrameType.EOF, 1).encode() + Frame(FrameType.DATA, 1, b"x").encode(),
        Frame(FrameType.SIGNAL, 1, words(0)).encode(),
        Frame(FrameType.SIGNAL, 1, words(65)).encode(),
        Frame(FrameType.SIGNAL, 1, b"").encode(),
        Frame(FrameType.GRANT, 1, words(1, 1)).encode(),
        Frame(FrameType.GRANT, 1, words(0, 0)).encode(),
        Frame(FrameType.GRANT, 1, words(3, 0)).encode(),
        Frame(FrameType.CLOCK, 2, bytes(7)).encode(),
        Frame(FrameType.RESEED, 2, bytes(4097)).encode(),
        Frame(FrameType.POWEROFF, 2).encode(),
        Frame(FrameType.FREEZE, 1).encode(),
        Frame(FrameType.FREEZE, 2, b"x").encode(),
        Frame(FrameType.THAW, 1, words(0, 0)).encode(),
        Frame(FrameType.THAW, 2, words(0)).encode(),
        Frame(FrameType.THAW, 2, words(HUGE, 0)).encode(),
        Frame(FrameType.THAW, 2, words(0, HUGE)).encode(),
        Frame(FrameType.THAW, 2, words(0, 0) + bytes(5)).encode(),
        Frame(FrameType.THAW, 2, words(0, 0) + bytes(7)).encode(),
        Frame(FrameType.THAW, 2, words(1) + b"\0" + words(0)).encode(),
        Frame(FrameType.CARDS, 1, words(0, 0)).encode(),
        Frame(FrameType.CARDS, 2, words(0)).encode(),
        Frame(FrameType.CARDS, 2, words(1, 0) + bytes(32)).encode(),
        Frame(FrameType.CARDS, 2, words(1, 8) + bytes(36)).encode(),
        Frame(FrameType.CARDS, 2, words(1, 0) + bytes(6 + 4) + b"\x21" + bytes(25)).encode(),
        Frame(FrameType.CARDS, 2, words(HUGE, 0)).encode(),
        Frame(FrameType.CARDS, 2, words(9) + 9 * (words(0) + bytes(32)) + words(0)).encode(),
        Frame(FrameType.CARDS, 2, words(0, 0) + b"x").encode(),
    ],
)
def test_a_protocol_error_drops_the_session_only(agent: Agent, data: bytes) -> None:
    agent.start(1, "sleep", "1000")
    agent.started(1)
    agent.socket.sendall(data)
    frame = agent.next_of(0)
    assert frame.type == FrameType.PROTOCOL_ERROR
    assert frame.payload.decode()
    agent.send(FrameType.PING, 0, b"ignored: the session is over")
    agent.hello(b"the next session")
    assert agent.run("echo", "fine").stdout == b"fine\n"


def test_nothing_is_answered_before_hello(agent_path: Path) -> None:
    agent = Agent(agent_path)
    agent.send(FrameType.PING, 0, b"too early")
    agent.socket.sendall(b"CI\x01\x01garbage" + Frame(FrameType.EXEC, 1, ECHO).encode())
    hello = encode_hello(NONCE, clock_ns=0, entropy=b"")
    agent.send(FrameType.HELLO, 0, hello)
    frame = agent.next()
    assert (frame.type, frame.payload[:16]) == (FrameType.HELLO_ACK, NONCE)
    agent.__exit__()


ONE_FRAME = Frame(FrameType.PING, 0, bytes(range(200))).encode()
SLOW = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SLOW
@given(cut=st.integers(0, len(ONE_FRAME)))
def test_hello_after_half_a_frame(agent: Agent, cut: int) -> None:
    # Except where HELLO itself is exactly what the frame lacks; a host says it again then.
    hello = Frame(FrameType.HELLO, 0, encode_hello(NONCE, clock_ns=0, entropy=b"")).encode()
    if len(ONE_FRAME) - cut == len(hello):
        hello *= 2
    agent.decoder.seek_hello(NONCE)
    agent.socket.sendall(ONE_FRAME[:cut] + hello)
    assert agent.next().type == FrameType.HELLO_ACK
    assert agent.run("echo", "fine").stdout == b"fine\n"


# What the fuzzer sends must do no harm to this host: no EXEC and no WRITE that parses, no POWEROFF,
# and READ of harmless files only.
HARMLESS = [
    *(FrameType.DATA, FrameType.EOF, FrameType.SIGNAL, FrameType.GRANT, FrameType.PING),
    *(FrameType.FREEZE, FrameType.THAW, FrameType.HELLO_ACK, FrameType.DONE, 0, 0x0F, 0x42, 0xFF),
]
CHANNELS = st.sampled_from([0, 1, 2, 3, HUGE])
PAYLOADS = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([0, 1, 2, 9, 64, 65536, HUGE]), max_size=4).map(lambda v: words(*v)),
)
FRAMES = st.one_of(
    st.builds(Frame, st.sampled_from(HARMLESS), CHANNELS, PAYLOADS),
    st.builds(Frame, st.just(FrameType.EXEC), CHANNELS, PAYLOADS.map(lambda p: words(HUGE) + p)),
    st.builds(Frame, st.just(FrameType.EXEC), CHANNELS, st.just(ECHO)),
    st.builds(
        Frame, st.just(FrameType.WRITE), CHANNELS, PAYLOADS.map(lambda p: words(0, HUGE) + p)
    ),
    st.builds(
        Frame,
        st.just(FrameType.READ),
        CHANNELS,
        st.sampled_from([words(9) + b"/dev/zero", words(11) + b"/etc/passwd", words(0)]),
    ),
).map(Frame.encode)
HEADERS = st.builds(
    lambda start, kind, channel, length: start + bytes([kind]) + words(channel, length),
    st.sampled_from([b"CI\x01", b"CI\x02", b"\0\0\0"]),
    st.sampled_from(HARMLESS),
    CHANNELS,
    st.sampled_from([0, 1, 300, 65536, MAX_PAYLOAD, MAX_PAYLOAD + 1, HUGE]),
)
# Cut at the end only if what follows cannot complete it to something that parses.
CUT_PINGS = st.integers(1, len(ONE_FRAME)).map(lambda n: ONE_FRAME[:n])
CHUNKS = st.lists(st.one_of(FRAMES, HEADERS, CUT_PINGS, st.binary(max_size=50)), max_size=12)


@pytest.fixture(scope="module")
def checked_agent(checked_agent_path: Path) -> Iterator[Agent]:
    with Agent(checked_agent_path) as agent:
        yield agent


@settings(max_examples=150)
@given(chunks=CHUNKS, nonce=st.binary(min_size=16, max_size=16))
def test_no_bytes_harm_the_agent(checked_agent: Agent, chunks: list[bytes], nonce: bytes) -> None:
    agent = checked_agent
    agent.hello()
    agent.socket.sendall(b"".join(chunks))
    agent.queue.clear()
    agent.others.clear()
    agent.decoder.seek_hello(nonce)
    # As long as HELLO gets, so that it is never exactly what a cut frame lacks.
    agent.send(FrameType.HELLO, 0, encode_hello(nonce, clock_ns=0, entropy=bytes(4096)))
    assert agent.next().type == FrameType.HELLO_ACK
    assert agent.run("/bin/echo", "fine").stdout == b"fine\n"
