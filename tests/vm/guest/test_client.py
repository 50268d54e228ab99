"""The host's client against an agent that is not ours: the guest is not trusted."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.vm._guest.channel import Channel
from core_infra.vm._guest.client import AgentClient, Resumed
from core_infra.vm._guest.connection import GuestGoneError
from core_infra.vm._guest.protocol import (
    HEADER,
    WINDOW,
    Frame,
    FrameDecoder,
    FrameType,
    HelloAck,
    ProtocolError,
)

DONE = struct.pack("<BIQ", 0, 0, 0)


class HostileAgent:
    """The guest's end: greets as the protocol wants, then says whatever the test says."""

    facts = b""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.sock = ours
        self.client = AgentClient(theirs)
        self.decoder = FrameDecoder()
        self.thread = threading.Thread(target=self._greet)
        self.thread.start()
        self.client.hello(30)

    def _greet(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.sock.recv(1 << 16):
                for frame in self.decoder.feed(data):
                    if frame.type == FrameType.HELLO:
                        self.say(FrameType.HELLO_ACK, 0, frame.payload[:16] + self.facts)
                    elif frame.type == FrameType.PING:
                        self.say(FrameType.PONG, 0)
                    elif frame.type in (FrameType.CLOCK, FrameType.THAW):
                        self.say(FrameType.DONE, frame.channel, DONE)

    def say(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self.sock.sendall(Frame(kind, channel, payload).encode())

    def channel(self) -> Channel:
        return self.client.open_exec([b"x"], env={}, cwd=b"", user=b"")

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(30)
        self.sock.close()
        self.client.close()


@pytest.fixture
def agent() -> Iterator[HostileAgent]:
    agent = HostileAgent()
    yield agent
    agent.close()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (FrameType.HELLO_ACK, bytes(16)),
        (FrameType.HELLO_ACK, b""),
        (FrameType.STDIN_GRANT, b"abc"),
        (FrameType.DONE, b""),
        (FrameType.DONE, struct.pack("<BIQ", 9, 0, 0)),
        (FrameType.DONE, struct.pack("<BIQ", 1, 0xFFFFFFFF, 0)),
        (FrameType.DONE, struct.pack("<BIQ", 0, 0xFFFFFFFF, 0)),
        (FrameType.PROTOCOL_ERROR, b"what?"),
    ],
)
def test_impossible_frames_end_the_session_at_once(
    agent: HostileAgent, kind: FrameType, payload: bytes
) -> None:
    channel = agent.channel()
    agent.say(kind, channel.number if kind != FrameType.HELLO_ACK else 0, payload)
    with pytest.raises(ProtocolError):
        channel.read(time.monotonic() + 30)
    assert agent.client.lost
    agent.client.hello(30)
    agent.client.set_clock(1, 30)


def test_more_than_was_granted_is_refused_and_not_kept(agent: HostileAgent) -> None:
    channel = agent.channel()
    for _ in range(WINDOW // 65536 + 1):
        agent.say(FrameType.STDOUT, channel.number, bytes(65536))
    with channel._changed:  # reading would grant more
        channel._wait(lambda: channel._error, time.monotonic() + 30)
    with pytest.raises(ProtocolError, match="granted"):
        channel.result(time.monotonic() + 30)


def test_an_agent_that_hangs_up_is_told(agent: HostileAgent) -> None:
    channel = agent.channel()
    agent.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestGoneError):
        channel.read(time.monotonic() + 30)
    with pytest.raises(GuestGoneError):
        agent.channel()


class DeafAgent(HostileAgent):
    """Does not hear the first greeting, as if QEMU had dropped it when a former agent ended."""

    greetings = 0

    def say(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self.greetings += kind == FrameType.HELLO_ACK
        if self.greetings != 1:
            super().say(kind, channel, payload)


def test_a_greeting_without_an_answer_is_repeated() -> None:
    agent = DeafAgent()
    assert agent.greetings == 2
    agent.close()


def test_an_agent_that_ends_before_it_is_greeted_is_not_waited_for(agent: HostileAgent) -> None:
    agent.client.fail(GuestGoneError("the machine has ended"))
    with pytest.raises(GuestGoneError, match="machine has ended"):
        agent.client.hello(600)


@pytest.mark.parametrize("what", ["clock", "entropy"])
def test_a_clone_that_cannot_be_set_right_is_refused(agent: HostileAgent, what: str) -> None:
    agent.facts = b"%s_error=not permitted\n" % what.encode()
    with pytest.raises(UnavailableError, match="not permitted"):
        agent.client.resume(timeout=30)


def test_a_clone_tells_its_clock(agent: HostileAgent) -> None:
    agent.facts = b"clock=%d\n" % (time.time_ns() - 10**9)
    assert 10**9 <= agent.client.resume(timeout=30).clock_error_ns < 60 * 10**9


@pytest.mark.parametrize("clock", ["", "-5", "1e3", "²"])
def test_a_clone_that_tells_no_time_is_refused(clock: str) -> None:
    with pytest.raises(ProtocolError, match="clock"):
        _ = Resumed(HelloAck(b"", {"clock": clock}), 0, 0).clock_error_ns
    with pytest.raises(ProtocolError, match="clock"):
        _ = Resumed(HelloAck(b"", {}), 0, 0).clock_error_ns


@pytest.mark.parametrize(
    ("guest", "error"), [(100, 50), (150, 50), (125, 25), (90, 60), (190, 90), (0, 150)]
)
def test_the_most_that_a_clock_is_off(guest: int, error: int) -> None:
    # Read somewhere between 100 and 150 of the host's clock.
    assert Resumed(HelloAck(b"", {"clock": str(guest)}), 100, 150).clock_error_ns == error


frames = st.builds(
    lambda kind, channel, payload: HEADER.pack(b"CI", 1, kind, channel, len(payload)) + payload,
    st.one_of(st.sampled_from(list(FrameType)), st.integers(0, 255)),
    st.integers(0, 5),
    st.binary(max_size=40),
)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(noise=st.lists(st.one_of(frames, st.binary(max_size=60)), max_size=8))
def test_no_bytes_of_a_guest_harm_the_host(agent: HostileAgent, noise: list[bytes]) -> None:
    channel = agent.channel()
    for data in noise:
        agent.sock.sendall(data)
    agent.say(FrameType.DONE, channel.number, DONE)
    with contextlib.suppress(CoreInfraError):
        while channel.read(time.monotonic() + 1):
            pass
    agent.client.hello(30)
    agent.client.set_clock(1, 30)
