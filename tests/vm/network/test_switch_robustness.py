"""The switch reads what guests write: odd frames, at any time, break nothing.

It is compiled with the sanitizers of the host's compiler, which end it at the first access that is
wrong.
"""

import contextlib
import functools
import itertools
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.vm._network import switch as module
from core_infra.vm._network.link_settings import LinkSettings
from core_infra.vm._network.switch import Switch

SOURCES = Path(__file__).parents[3] / "csrc" / "switch"
MACS = [bytes([2, 0, 0, 0, 0, number]) for number in range(4)]

macs = st.sampled_from([*MACS, b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01"]) | st.binary(
    min_size=6, max_size=6
)
vlan = st.just(b"\x81\x00\x00\x07")
v6 = st.builds(
    lambda next_header, length, rest: b"\x86\xdd\x60" + bytes(3) + length + next_header + rest,
    st.sampled_from([b"\x00", b"\x2b", b"\x2c", b"\x3c", b"\xff"]),
    st.binary(min_size=2, max_size=2),
    st.binary(max_size=80),
)
frames = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda target, source, tags, rest: target + source + b"".join(tags) + rest,
        macs,
        macs,
        st.lists(vlan, max_size=3),
        v6
        | st.binary(max_size=100)
        | st.sampled_from([bytes(9_000), bytes(65_500), bytes(68_000)]),
    ),
)
cards = st.integers(1, 3)
shares = st.sampled_from([0.0, 0.5, 1.0])
links = st.builds(
    LinkSettings,
    delay=st.sampled_from([0.0, 0.001, 3600.0]),
    jitter=st.sampled_from([0.0, 0.01, 3600.0]),
    rate=st.sampled_from([0, 1, 10**6, 2**63]),
    loss=shares,
    duplicate=shares,
    reorder=shares,
    corrupt=shares,
    seed=st.integers(0, 2**64 - 1),
)
verdicts = st.builds(struct.Struct("=QQ").pack, st.integers(0, 40), st.integers(0, 2))
steps = st.one_of(
    st.tuples(st.just("send"), cards, st.lists(frames, min_size=1, max_size=20)),
    st.tuples(st.just("link"), cards, cards, links),
    st.tuples(st.just("cut"), cards, cards, st.booleans()),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("copy")),
    st.tuples(st.just("load"), st.binary(max_size=60)),
    st.tuples(st.just("capture"), st.booleans()),
    st.tuples(st.just("inspect"), st.booleans()),
    st.tuples(st.just("answer"), st.binary(max_size=20) | verdicts),
    st.tuples(st.just("close"), cards),
    st.tuples(st.just("open"), cards),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The switch, with sanitizers; skips if the host's compiler cannot use them."""
    directory = tmp_path_factory.mktemp("switch")
    flags = "-std=gnu11 -D_GNU_SOURCE -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"

    def compiled(name: str, *sources: Path) -> Path:
        subprocess.run(["gcc", *flags.split(), "-o", directory / name, *sources], check=True)
        return directory / name

    empty = directory / "empty.c"
    empty.write_text("int main(void) { return 0; }")
    try:
        subprocess.run([compiled("empty", empty)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("gcc or its sanitizers are missing")
    return compiled("switch", *sorted(SOURCES.glob("*.c")))


class Hostile:
    """Three cards of a network, whose machines send what they like and read nothing."""

    def __init__(self, switch: Switch, directory: Path) -> None:
        self.switch = switch
        self.numbers = itertools.count()
        self.directory = directory
        self.cards: dict[int, socket.socket] = {}
        self.inspectors: list[socket.socket] = []
        for card in (1, 2, 3):
            self.open(card)

    def open(self, card: int) -> None:
        self.close(card)
        self.cards[card], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.cards[card].settimeout(0)
        self.switch.open(1, card, "n" * 100, theirs)

    def close(self, card: int) -> None:
        if card in self.cards:
            self.cards.pop(card).close()
            self.switch.close_port(1, card)

    def send(self, card: int, frames: list[bytes]) -> None:
        for frame in frames if card in self.cards else ():
            try:
                self.cards[card].send(frame)
            except BlockingIOError:
                self.switch.drain(1)

    def link(self, source: int, target: int, settings: LinkSettings) -> None:
        self.switch.set_link(1, source, target, settings)

    def cut(self, source: int, target: int, cut: bool) -> None:  # noqa: FBT001 - a step's argument
        self.switch.set_cut(1, source, target, cut=cut)

    def hold(self, on: bool) -> None:  # noqa: FBT001 - a step's argument
        self.switch.hold(1, on=on)

    def copy(self) -> None:
        self.switch.load(1, self.switch.dump(1))

    def load(self, frames: bytes) -> None:
        self.switch.load(1, frames)

    def capture(self, on: bool) -> None:  # noqa: FBT001 - a step's argument
        if on:
            with Path(self.directory, f"{next(self.numbers)}").open("wb") as file:
                self.switch.capture(1, file.fileno())
        else:
            self.switch.capture(1, None)

    def inspect(self, on: bool) -> None:  # noqa: FBT001 - a step's argument
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.switch.inspect(1, theirs if on else None)
        self.inspectors.append(ours)  # it does not answer

    def answer(self, verdict: bytes) -> None:
        for inspector in self.inspectors[-1:]:
            with contextlib.suppress(OSError):
                inspector.send(verdict, socket.MSG_DONTWAIT)


def test_odd_frames_break_nothing(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "switch_program", lambda: program)

    @settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.lists(steps, min_size=1, max_size=25))
    def attack(schedule: list[tuple[str, object]]) -> None:
        switch = Switch()
        hostile = Hostile(switch, tmp_path)
        try:
            for name, *arguments in schedule:
                functools.partial(getattr(hostile, name), *arguments)()
            switch.drain(1)
            switch.remove(1)
            switch.sync()  # it still answers
        finally:
            for one in [*hostile.cards.values(), *hostile.inspectors]:
                one.close()
            switch.close()

    attack()
