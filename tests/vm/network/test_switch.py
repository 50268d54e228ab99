"""The switch without machines: the fate of each frame, and what is kept and copied."""

import errno
import hashlib
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_infra.errors import UnavailableError
from core_infra.vm._network.inspection import Inspection
from core_infra.vm._network.link_settings import LinkSettings
from core_infra.vm._network.switch import Switch
from core_infra.vm._vmm_sockets import peek_messages

MACS = [bytes([2, 0, 0, 0, 0, number]) for number in range(3)]
NET = 1


class Wire:
    """Two cards on a network of a switch."""

    def __init__(self, switch: Switch, net: int = NET) -> None:
        self.switch = switch
        self.net = net
        self.cards = []
        for port in (1, 2):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(10)
            switch.open(net, port, f"card{port}", theirs)
            self.cards.append(ours)
        switch.sync()
        self.cards[1].send(MACS[0] + MACS[1] + b"\x88\xb5learn me")  # no longer sent to all
        assert self.cards[0].recv(100).endswith(b"learn me")

    def link(self, settings: LinkSettings) -> None:
        self.switch.set_link(self.net, 1, 2, settings)
        self.switch.sync()

    def send(self, *texts: bytes) -> None:
        for text in texts:
            self.cards[0].send(MACS[1] + MACS[0] + b"\x88\xb5" + text)

    def receive(self) -> bytes:
        return self.cards[1].recv(2000)[14:]

    def fates(self, settings: LinkSettings, count: int = 400) -> list[bytes]:
        """What arrives of some frames; then the link is healed, for the end."""
        self.link(settings)
        self.send(*(b"%04d" % number for number in range(count)))
        self.switch.drain(self.net)
        self.link(LinkSettings())
        self.send(b"overtaken", b"end")  # by the last frame, if that is to be overtaken
        return [text for text in iter(self.receive, b"end") if text != b"overtaken"]


@pytest.fixture
def wire() -> Iterator[Wire]:
    switch = Switch()
    wire = Wire(switch)
    yield wire
    switch.close()
    for card in wire.cards:
        card.close()


def test_the_same_seed_hits_the_same_frames(wire: Wire) -> None:
    settings = LinkSettings(loss=0.3, duplicate=0.05, corrupt=0.05, reorder=0.05, seed=5)
    first = wire.fates(settings)
    assert wire.fates(settings) == first
    other = Switch()
    again = Wire(other)
    assert again.fates(settings) == first
    other.close()
    for card in again.cards:
        card.close()
    assert wire.fates(LinkSettings(loss=0.3, seed=6)) != wire.fates(LinkSettings(loss=0.3, seed=5))


def test_a_seed_hits_the_same_frames_in_each_run_and_version(wire: Wire) -> None:
    arrived = wire.fates(LinkSettings(loss=0.3, duplicate=0.1, corrupt=0.1, seed=5), count=60)
    assert hashlib.sha256(b"\n".join(arrived)).hexdigest().startswith("0379f303aa30")


def test_a_link_with_more_loss_loses_all_that_one_with_less_loses(wire: Wire) -> None:
    little = set(wire.fates(LinkSettings(loss=0.1, seed=1)))
    much = set(wire.fates(LinkSettings(loss=0.5, duplicate=0.2, seed=1)))
    assert much < little
    assert 300 < len(little) < 390
    assert 130 < len(much) < 270
    assert wire.fates(LinkSettings(loss=1)) == []


def test_each_fault_does_what_it_says(wire: Wire) -> None:
    sent = [b"%04d" % number for number in range(400)]
    assert wire.fates(LinkSettings()) == sent
    twice = wire.fates(LinkSettings(duplicate=0.25, seed=1))
    assert sorted(set(twice)) == sent
    assert 450 < len(twice) < 550
    moved = wire.fates(LinkSettings(reorder=0.25, seed=1))
    assert sorted(moved) == sent
    assert moved != sent
    bad = wire.fates(LinkSettings(corrupt=0.25, seed=1))
    wrong = [(got, good) for got, good in zip(bad, sent, strict=True) if got != good]
    assert 50 < len(wrong) < 150
    for got, good in wrong:
        difference = int.from_bytes(got, "big") ^ int.from_bytes(good, "big")
        assert difference.bit_count() == 1


def test_delayed_frames_keep_their_order_despite_jitter(wire: Wire) -> None:
    wire.link(LinkSettings(delay=0.05, jitter=0.05, seed=3))
    sent = [b"%04d" % number for number in range(100)]
    wire.send(*sent)
    assert [wire.receive() for _ in sent] == sent


def test_a_healed_link_is_as_fast_as_before(wire: Wire) -> None:
    for slow in (LinkSettings(delay=3600), LinkSettings(rate=1), LinkSettings(delay=5, reorder=1)):
        wire.link(slow)
        wire.send(b"slow", b"slower")
        wire.switch.drain(NET)
        wire.link(LinkSettings())
        wire.send(b"fast")
        got = [wire.receive() for _ in range(3)]
        assert sorted(got) == [b"fast", b"slow", b"slower"]
        assert slow.reorder or got[-1] == b"fast"


def test_what_is_under_way_is_kept_copied_and_delivered_later(wire: Wire) -> None:
    wire.switch.hold(NET, on=True)
    wire.send(b"waits")
    wire.link(LinkSettings(delay=0.01))
    wire.send(b"is delayed")
    wire.switch.drain(NET)
    frames = wire.switch.dump(NET)
    copy = Wire(wire.switch, net=2)
    wire.switch.hold(2, on=True)
    wire.switch.load(2, frames)
    wire.cards[1].settimeout(0.1)
    with pytest.raises(TimeoutError):
        wire.receive()
    wire.cards[1].settimeout(10)
    for one in (wire, copy):
        wire.switch.hold(one.net, on=False)
        assert [one.receive(), one.receive()] == [b"waits", b"is delayed"]
    for card in copy.cards:
        card.close()


def test_a_machine_that_does_not_read_loses_nothing_that_has_room(wire: Wire) -> None:
    sent = [b"%04d" % number + bytes(1000) for number in range(2000)]
    wire.send(*sent)
    assert [wire.receive() for _ in sent] == sent


@pytest.mark.parametrize("odd", [b"", b"short", MACS[1] * 2 + b"\x88", bytes(66_000)])
def test_frames_that_are_none_do_not_harm_a_card(wire: Wire, odd: bytes) -> None:
    wire.cards[0].send(odd)
    wire.send(b"good")
    assert wire.receive() == b"good"


def test_a_card_whose_machine_has_ended_is_noticed(wire: Wire) -> None:
    wire.switch.stay()
    wire.cards[0].send(b"")
    for card in wire.cards:
        card.close()
    wire.switch.close(stays=True)
    assert wire.switch._child.wait(timeout=10) == 0


def test_nothing_passes_between_networks_or_through_a_cut(wire: Wire) -> None:
    other = Wire(wire.switch, net=2)
    wire.switch.set_cut(NET, 1, 2, cut=True)
    wire.switch.sync()
    wire.send(b"cut")
    other.send(b"other")
    assert other.receive() == b"other"
    wire.switch.drain(NET)
    wire.switch.set_cut(NET, 1, 2, cut=False)
    wire.switch.sync()
    wire.send(b"healed")
    assert wire.receive() == b"healed"
    for card in other.cards:
        card.close()


def test_a_switch_that_was_killed_is_one_clear_error(wire: Wire) -> None:
    wire.switch._child.kill()
    with pytest.raises(UnavailableError, match="the process that switches them has ended"):
        wire.switch.sync()


def test_a_slow_inspection_delays_its_network_only_and_loses_nothing(wire: Wire) -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def judge(_port: int, frame: bytes) -> bool:
        begun.set()
        goes_on.wait(10)
        return frame[14:].startswith(b"drop")

    sent = [b"%04d" % number + bytes(60_000) for number in range(100)]  # more than fit in a socket
    inspection = Inspection(wire.switch, NET, judge)
    wire.send(b"drop this")
    sender = threading.Thread(target=wire.send, args=sent)
    sender.start()
    assert begun.wait(10)
    other = Wire(wire.switch, net=2)
    other.send(b"other")
    assert other.receive() == b"other"
    goes_on.set()
    assert [wire.cards[1].recv(70_000)[14:] for _ in sent] == sent
    sender.join()
    inspection.close()
    for card in other.cards:
        card.close()


def test_frames_that_wait_pass_when_the_inspection_ends(wire: Wire) -> None:
    goes_on = threading.Event()
    inspection = Inspection(wire.switch, NET, lambda _port, _frame: goes_on.wait(10))
    wire.send(b"first", b"second")
    wire.switch.drain(NET)
    inspection.close()
    assert [wire.receive(), wire.receive()] == [b"first", b"second"]
    goes_on.set()


def test_a_capture_that_has_no_room_ends_with_a_whole_frame(wire: Wire, tmp_path: Path) -> None:
    path, limit = tmp_path / "frames.pcapng", 4000
    resource.prlimit(wire.switch.pid, resource.RLIMIT_FSIZE, (limit, limit))
    with path.open("wb") as file:
        wire.switch.capture(NET, file.fileno())
    for number in range(50):
        wire.send(b"%04d" % number + bytes(150))
        assert wire.receive().startswith(b"%04d" % number)
    assert wire.switch.capture(NET, None) == errno.EFBIG
    data = path.read_bytes()
    at, numbers = 0, []
    while at < len(data):  # a block's length is behind its type, and at its end
        kind, length = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        assert int.from_bytes(data[at + length - 4 : at + length], "little") == length
        if kind == 6:
            numbers.append(int(data[at + 28 + 14 : at + 28 + 18]))
        at += length
    assert numbers == list(range(len(numbers)))
    assert 10 < len(numbers) < 50


def test_frames_that_were_not_read_are_seen_and_stay_there_also_when_the_switch_has_gone() -> None:
    card, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with card:
        for frame in (b"one", b"two"):
            theirs.send(frame)
        assert peek_messages(card) == [b"one", b"two"]
        theirs.close()
        assert peek_messages(card) == [b"one", b"two"]
        assert card.recv(9) == b"one"
