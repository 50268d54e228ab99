"""The codec: frames come out as they went in, however the stream was cut, and nothing else does."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.vm._guest.protocol import (
    MAX_PAYLOAD,
    Done,
    Frame,
    FrameDecoder,
    FrameType,
    HelloAck,
    Outcome,
    ProtocolError,
    encode_exec,
    encode_hello,
    encode_thaw,
)

U32 = st.integers(0, 2**32 - 1)
FRAMES = st.builds(Frame, st.integers(0, 255), U32, st.binary(max_size=300))
NONCES = st.binary(min_size=16, max_size=16)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def decode(decoder: FrameDecoder, data: bytes, cuts: list[int]) -> list[Frame]:
    return [frame for piece in pieces(data, cuts) for frame in decoder.feed(piece)]


CUTS = st.lists(st.integers(0, 3000), max_size=20)


@given(frames=st.lists(FRAMES, max_size=8), cuts=CUTS)
def test_frames_come_out_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    assert decode(FrameDecoder(), b"".join(f.encode() for f in frames), cuts) == frames


@given(frames=st.lists(FRAMES, max_size=3))
def test_byte_by_byte(frames: list[Frame]) -> None:
    data = b"".join(frame.encode() for frame in frames)
    assert decode(FrameDecoder(), data, list(range(len(data)))) == frames


def test_the_longest_frame() -> None:
    frame = Frame(FrameType.EXEC, 1, bytes(MAX_PAYLOAD))
    assert list(FrameDecoder().feed(frame.encode())) == [frame]
    with pytest.raises(ProtocolError, match=str(MAX_PAYLOAD + 1)):
        Frame(FrameType.EXEC, 1, bytes(MAX_PAYLOAD + 1)).encode()


@given(frames=st.lists(FRAMES, max_size=3), garbage=st.binary(min_size=12), cuts=CUTS)
def test_garbage_is_an_error_from_then_on(
    frames: list[Frame], garbage: bytes, cuts: list[int]
) -> None:
    decoder, seen = FrameDecoder(), []
    data = b"".join(frame.encode() for frame in frames) + b"X" + garbage
    with pytest.raises(ProtocolError, match="not a frame header"):
        seen += decode(decoder, data, cuts)
    with pytest.raises(ProtocolError):
        list(decoder.feed(Frame(FrameType.PONG, 0).encode()))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<2sBBII", b"CJ", 1, 0x83, 1, 0),
        struct.pack("<2sBBII", b"CI", 2, 0x83, 1, 0),
        struct.pack("<2sBBII", b"CI", 1, 0x83, 1, MAX_PAYLOAD + 1),
    ],
)
def test_bad_headers(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(FrameDecoder().feed(header))


@given(data=st.binary(max_size=400))
def test_any_bytes_give_frames_or_protocol_error(data: bytes) -> None:
    decoder = FrameDecoder()
    try:
        frames = list(decoder.feed(data))
    except ProtocolError:
        return
    assert data.startswith(b"".join(frame.encode() for frame in frames))


def ack(nonce: bytes) -> Frame:
    return Frame(FrameType.HELLO_ACK, 0, nonce + b"version=1\n")


# A former session's bytes: whole frames, acknowledgements of other sessions, half frames, anything.
@st.composite
def leftovers(draw: st.DrawFn, nonce: bytes) -> bytes:
    other = NONCES.filter(lambda n: n != nonce).map(lambda n: ack(n).encode())
    whole = st.one_of(FRAMES.map(Frame.encode), other, st.binary(max_size=40))
    half = st.one_of(whole, st.just(ack(nonce).encode()[:27]))
    cut = draw(half)
    data = b"".join(draw(st.lists(whole, max_size=4))) + cut[: draw(st.integers(0, len(cut)))]
    return data.replace(ack(nonce).encode()[:8] + b"\x1a\0\0\0" + nonce, b"")


@given(data=st.data(), nonce=NONCES, frames=st.lists(FRAMES, max_size=3), cuts=CUTS)
def test_a_session_begins_after_whatever_was_left(
    data: st.DataObject, nonce: bytes, frames: list[Frame], cuts: list[int]
) -> None:
    decoder = FrameDecoder()
    decoder.seek_hello(nonce)
    session = [ack(nonce), *frames]
    stream = data.draw(leftovers(nonce)) + b"".join(frame.encode() for frame in session)
    assert decode(decoder, stream, cuts) == session


def test_a_new_session_mends_a_broken_decoder() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ProtocolError):
        list(decoder.feed(b"no frame at all"))
    decoder.seek_hello(bytes(16))
    assert list(decoder.feed(b"still none" + ack(bytes(16)).encode())) == [ack(bytes(16))]


@given(
    outcome=st.sampled_from(Outcome),
    code=st.integers(0, 64),  # possible as an exit code, a signal and an errno alike
    ns=st.integers(0, 2**64 - 1),
    message=st.text(),
)
def test_done(outcome: Outcome, code: int, ns: int, message: str) -> None:
    encoded = message.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    payload = struct.pack("<BIQ", outcome, code, ns) + encoded.encode()
    assert Done.decode(payload) == Done(outcome, code, ns, encoded)


@given(
    payload=st.one_of(
        st.binary(max_size=30),
        st.builds(
            lambda outcome, code, rest: bytes([outcome]) + code.to_bytes(4, "little") + rest,
            st.integers(0, 3),
            st.sampled_from([0, 64, 65, 4095, 4096]),
            st.binary(min_size=7, max_size=9),
        ),
    )
)
def test_done_of_any_bytes(payload: bytes) -> None:
    code = int.from_bytes(payload[1:5], "little")
    if len(payload) >= 13 and payload[0] <= 2 and code <= (64 if payload[0] == 1 else 4095):
        assert Done.decode(payload).outcome == payload[0]
    else:
        with pytest.raises(ProtocolError, match="bad DONE"):
            Done.decode(payload)


def test_hello_ack() -> None:
    lines = "version=1\narch=x86_64\nkernel=6.1\x85=odd\nno pair\n".encode()
    decoded = HelloAck.decode(bytes(16) + lines)
    assert decoded.nonce == bytes(16)
    assert decoded.info == {"version": "1", "arch": "x86_64", "kernel": "6.1\x85=odd"}


@given(payload=st.binary(max_size=15))
def test_hello_ack_that_is_too_short(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="bad HELLO_ACK"):
        HelloAck.decode(payload)


def texts(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


@given(
    argv=st.lists(st.binary(), min_size=1),
    env=st.dictionaries(st.binary(min_size=1), st.binary()),
    cwd=st.binary(),
    user=st.binary(),
)
def test_exec(argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, user: bytes) -> None:
    payload = encode_exec(argv, env=env, cwd=cwd, user=user)
    head = struct.pack("<I", len(user)) + user + struct.pack("<I", len(cwd)) + cwd
    assert payload.startswith(head + struct.pack("<I", len(argv)))
    rest = payload[len(head) + 4 :]
    words = sum(4 + len(word) for word in argv)
    assert texts(rest[:words]) == argv
    assert rest[words : words + 4] == struct.pack("<I", len(env))
    assert texts(rest[words + 4 :]) == [name + b"=" + value for name, value in env.items()]


@given(nonce=NONCES, clock=st.integers(0, 2**64 - 1), entropy=st.binary())
def test_hello(nonce: bytes, clock: int, entropy: bytes) -> None:
    assert encode_hello(nonce, clock_ns=clock, entropy=entropy) == (
        nonce + clock.to_bytes(8, "little") + entropy
    )


@given(hostname=st.binary(), machine_id=st.binary(), mac=st.binary())
def test_thaw(hostname: bytes, machine_id: bytes, mac: bytes) -> None:
    payload = encode_thaw(hostname=hostname, machine_id=machine_id, mac=mac)
    names = payload[: len(payload) - len(mac)]
    assert texts(names) == [hostname, machine_id]
    assert payload == names + mac
