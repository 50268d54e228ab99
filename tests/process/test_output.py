"""Output: exact bytes, bounded, late readers, true order."""

from __future__ import annotations

import os
import random
import threading

import pytest
from process_programs import PYTHON

from core_infra.process import CannotStartError, LogPattern, RunOptions, Service, Stream
from core_infra.process._output import Output


def test_binary_output_is_kept_as_it_is(service: Service) -> None:
    data = bytes(range(256)) * 1000
    process = service.start("cat")
    process.send_input(data)
    process.close_stdin()
    process.wait(30)
    assert process.output_bytes() == data
    assert "\N{REPLACEMENT CHARACTER}" in process.output()


def test_the_last_bytes_are_kept_and_a_reader_is_told_what_is_gone(service: Service) -> None:
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
        with open(fifo) as told:  # noqa: PTH123
            told.read()
        assert process.output().endswith(f"{number}\n")


def test_run_returns_all_unless_told_otherwise(service: Service) -> None:
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


def test_a_log_that_cannot_be_written_is_told_and_holds_up_nobody(
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
