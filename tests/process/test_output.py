"""Output: exact bytes, bounded, late readers, true order, whole lines."""

from __future__ import annotations

import itertools
import os
import random
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core_infra.errors import InvalidError
from core_infra.process import CannotStartError, LogPattern, RingBuffer, RunOptions, Service, Stream
from core_infra.process._output import LineSplitter, Output
from process_programs import PYTHON

PIECES = st.lists(st.text("ab\n\ré€\U0001f600", max_size=12).map(str.encode), max_size=8)


def test_binary_output_is_kept_as_it_is(service: Service) -> None:
    data = bytes(range(256)) * 1000
    process = service.start("cat")
    process.send_input(data)
    process.close_stdin()
    process.wait(30)
    assert process.output_bytes() == data
    assert "\N{REPLACEMENT CHARACTER}" in process.output()


def test_the_last_bytes_are_kept_and_a_reader_gets_the_number_of_lost_ones(
    service: Service,
) -> None:
    options = RunOptions("seq", ["200000"], buffer_size=1000)
    process = service.start_with_options(options)
    process.wait(30)
    whole = "".join(f"{number}\n" for number in range(1, 200001)).encode()
    assert process.output_bytes() == whole[-1000:]
    piece = process.read(100)
    assert (piece.data, piece.lost, piece.end) == (whole[-1000:], len(whole) - 1100, len(whole))
    assert process.read(piece.end, timeout=None).data == b""


def test_a_reader_can_follow(service: Service) -> None:
    process = service.start("cat")
    process.send_input("one")
    first = process.read(0, timeout=30)
    process.send_input("two")
    second = process.read(first.end, timeout=30)
    assert (first.data, second.data) == (b"one", b"two")
    assert process.read(second.end, timeout=0.001).data == b""


def test_merged_streams_have_their_true_order(service: Service) -> None:
    script = "for i in $(seq 500); do echo o$i; echo e$i >&2; done"
    merged = service.run_with_options(RunOptions("sh", ["-c", script], merge=True))
    assert merged == "".join(f"o{number}\ne{number}\n" for number in range(1, 501))


def test_without_capture_nothing_is_kept(service: Service) -> None:
    options = RunOptions("sh", ["-c", "seq 100000; echo done >&2"], disable_capture=True)
    assert service.run_with_options(options) == ""


def test_what_was_written_before_is_there(service: Service, tmp_path: os.PathLike[str]) -> None:
    fifo = os.path.join(tmp_path, "fifo")  # noqa: PTH118
    os.mkfifo(fifo)
    process = service.start("sh", "-c", f"while read n; do echo $n; echo >{fifo}; done")
    for number in range(1, 301):
        process.send_input(f"{number}\n")
        with open(fifo) as reader:  # noqa: PTH123
            reader.read()
        assert process.output().endswith(f"{number}\n")


def test_run_returns_all_unless_limited(service: Service) -> None:
    numbers = "".join(f"{number}\n" for number in range(1, 300_001))
    assert service.run("seq", "300000") == numbers
    assert (
        service.run_with_options(RunOptions("seq", ["300000"], buffer_size=100)) == numbers[-100:]
    )


def test_a_log_takes_both_streams(service: Service, tmp_path: os.PathLike[str]) -> None:
    log = os.path.join(tmp_path, "log")  # noqa: PTH118 - a string is a path, too
    for _ in range(2):
        options = RunOptions("sh", ["-c", "echo out; echo err >&2"], log=log)
        assert service.run_with_options(options) == ""
    with open(log) as file:  # noqa: PTH123
        assert file.read() == "out\nerr\n" * 2


def test_a_log_that_cannot_be_written_is_an_error_and_blocks_nothing(
    service: Service, tmp_path: os.PathLike[str]
) -> None:
    fifo = os.path.join(tmp_path, "fifo")  # noqa: PTH118
    os.mkfifo(fifo)
    for log in (fifo, tmp_path, os.path.join(tmp_path, "none", "log")):  # noqa: PTH118
        with pytest.raises(CannotStartError) as caught:
            service.start_with_options(RunOptions("true", log=log))
        assert f"its log {os.fspath(log)!r} cannot be written" in str(caught.value)
    assert service.run("echo", "on") == "on\n"


def test_a_thousand_children_at_once_with_one_thread(service: Service) -> None:
    count = 1000
    threads_before = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    processes = [service.start("cat") for _ in range(count)]
    assert len(os.listdir("/proc/self/task")) <= threads_before + 1  # noqa: PTH208
    for number, process in enumerate(processes):
        process.send_input(f"{number}\n" * 100)
        process.close_stdin()
    for number, process in enumerate(processes):
        assert process.wait(60) == 0
        assert process.output() == f"{number}\n" * 100


def test_streams_stay_apart_when_the_ring_has_turned(service: Service) -> None:
    script = "import sys\nfor i in range(3000):\n (sys.stdout, sys.stderr)[i % 2].write(f'{i}\\n')"
    options = RunOptions(PYTHON, ["-u", "-c", script], buffer_size=2000)
    process = service.start_with_options(options)
    process.wait(30)
    out, err = process.output(Stream.STDOUT), process.output(Stream.STDERR)
    assert len(out) + len(err) == 2000
    assert all(int(number) % 2 == 0 for number in out.split()[1:])
    assert all(int(number) % 2 == 1 for number in err.split()[1:])


def test_streams_stay_apart_while_they_are_read() -> None:
    output, rng = Output(1000), random.Random(1)  # noqa: S311 - to be repeated

    def write() -> None:
        for _ in range(50_000):
            stream = rng.choice([Stream.STDOUT, Stream.STDERR])
            output.write(stream, (b"o" if stream is Stream.STDOUT else b"e") * rng.randrange(1, 60))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert set(output.read(Stream.STDOUT)) <= {*b"o"}
        assert set(output.read(Stream.STDERR)) <= {*b"e"}
        assert len(output.read()) <= 1000
    writer.join()


def test_what_is_left_behind_does_not_block_on_a_full_pipe(
    service: Service, tmp_path: os.PathLike[str]
) -> None:
    fifo = os.path.join(tmp_path, "fifo")  # noqa: PTH118
    os.mkfifo(fifo)
    process = service.start(
        "sh", "-c", f"(read x < {fifo}; seq 100000; echo written; exec sleep 600) & echo up"
    )
    assert process.wait(30) == 0
    with open(fifo, "w") as file:  # noqa: PTH123
        file.write("go\n")
    process.wait_ready(LogPattern("written"))


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


def test_a_reader_that_follows_gets_every_byte_or_the_number_of_lost_ones() -> None:
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


def split(pieces: list[bytes], max_line: int) -> list[tuple[str, bool]]:
    splitter = LineSplitter(max_line)
    found: list[tuple[str, bool]] = []
    for piece in pieces:
        parts, data = splitter.overflow(piece)
        found += parts
        found += [(line, False) for line in splitter.feed(data)]
        assert splitter._size == sum(map(len, splitter._held)) <= max_line
    rest = splitter.rest()
    return found if rest is None else [*found, (rest, False)]


def recut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({*range(0, len(data), 4), len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[first:last] for first, last in itertools.pairwise(places)]


@given(PIECES, st.lists(st.integers(0, 200), max_size=6))
def test_any_cuts_give_the_lines_of_the_whole(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    *whole, rest = data.decode().split("\n")
    expected = [line.removesuffix("\r") for line in whole]
    expected += [rest.removesuffix("\r")] if rest else []
    assert [text for text, _ in split(recut(data, cuts), 1000)] == expected


@given(PIECES, st.lists(st.integers(0, 200), max_size=6), st.integers(4, 9))
@example(["€€€€".encode()], [1, 4, 5, 7], 4)
def test_a_long_line_comes_in_parts_between_characters(
    pieces: list[bytes], cuts: list[int], max_line: int
) -> None:
    data = b"".join(pieces).replace(b"\r", b"")
    found = split(recut(data, cuts), max_line)
    text = "".join(text if partial else f"{text}\n" for text, partial in found)
    assert text.removesuffix("\n") == data.decode().removesuffix("\n")
    assert all(len(part.encode()) <= max_line for part, _ in found)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_bytes_that_are_no_text_are_no_accident(pieces: list[bytes]) -> None:
    found = split(pieces, 1000)
    lines = b"".join(pieces).split(b"\n")
    expected = [line.decode(errors="replace").removesuffix("\r") for line in lines]
    assert [text for text, _ in found] == (expected if lines[-1] else expected[:-1])
