"""What becomes of a process's files and memory in a clone, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm._hypervisors import fork_server
from core_infra.vm._hypervisors.fork_server import MAX_REPLACEMENTS
from forkable import Forkable, open_here

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def process() -> Iterator[Forkable]:
    with Forkable.start() as process:
        yield process


def test_eventfds_are_the_clones_own(process: Forkable) -> None:
    process.ask("e, s = os.eventfd(7), os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)")
    with process.fork() as clone:
        assert clone.ask("os.eventfd_read(e)") == "7"
        assert clone.ask("os.get_blocking(e), os.get_blocking(s), os.get_inheritable(e)") == (
            "(True, False, False)"
        )
        assert clone.ask("os.eventfd_write(e, 1)") == "None"
    assert process.ask("os.eventfd_read(e)") == "7"


def test_an_epoll_watches_the_clones_descriptors(process: Forkable) -> None:
    process.ask("e = os.eventfd(0);;poll = select.epoll();;poll.register(e, select.EPOLLIN)")
    with process.fork() as clone:
        assert clone.ask("poll.poll(0)") == "[]"
        clone.ask("os.eventfd_write(e, 1)")
        assert process.ask("poll.poll(0)") == "[]"
        assert clone.ask("poll.poll(10) == [(e, select.EPOLLIN)]") == "True"
        clone.ask("poll.unregister(e)")
    process.ask("os.eventfd_write(e, 1)")
    assert process.ask("poll.poll(10) == [(e, select.EPOLLIN)]") == "True"


def test_a_connection_that_is_not_replaced_is_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Forkable.start([theirs.fileno()]) as process:
        fd = theirs.fileno()
        with process.fork() as clone:
            assert clone.ask(f"os.read({fd}, 9)") == "b''"
            assert clone.ask(f"os.write({fd}, b'x')").startswith("BrokenPipeError")
        ours.send(b"hello")
        assert process.ask(f"os.read({fd}, 9)") == "b'hello'"


def test_a_replaced_connection_waits_or_not_as_the_old_one(process: Forkable) -> None:
    process.ask("side, _ = socket.socketpair();;side.setblocking(False)")
    side = int(process.ask("side.fileno()"))
    mine, clones = socket.socketpair()
    with mine, process.fork({side: clones.fileno()}) as clone:
        clones.close()
        assert clone.ask("side.recv(9)").startswith("BlockingIOError")
        mine.send(b"now")
        assert clone.ask("side.recv(9)") == "b'now'"


def test_the_log_can_be_replaced(tmp_path: Path) -> None:
    logs = [tmp_path / "first", tmp_path / "second"]
    with (
        logs[0].open("wb") as first,
        logs[1].open("wb") as second,
        Forkable.start(stdout=first, stderr=first) as process,
    ):
        with process.fork(dict.fromkeys((1, 2), second.fileno())) as clone:
            clone.ask("os.write(1, b'clone ') + os.write(2, b'clone ')")
        process.ask("os.write(1, b'process ') + os.write(2, b'process ')")
    assert [log.read_text() for log in logs] == ["process process ", "clone clone "]


def test_the_memorys_file_is_safe_from_the_clone(process: Forkable, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(b"original".ljust(4096))
    process.ask(f"f = open({str(path)!r}, 'r+b', buffering=0)")
    process.ask("m = mmap.mmap(f.fileno(), 4096, flags=mmap.MAP_PRIVATE)")
    with process.fork() as clone:
        clone.ask("m[:8] = b'changed!'")
        assert clone.ask("m[:8]") == "b'changed!'"
        assert clone.ask("f.write(b'x')").startswith("OSError(9")
    assert process.ask("m[:8]") == "b'original'"
    assert path.read_bytes().startswith(b"original")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("ends = os.pipe()", "descriptor \\d+: pipe:"),
        ("f = tempfile.TemporaryFile()", "deleted"),
        ("m = mmap.mmap(-1, 4096)", "memory: /dev/zero"),
        ("t = ctypes.CDLL(None).timerfd_create(1, 0)", "timerfd"),
        ("s = socket.create_server(('127.0.0.1', 0))", "socket:"),
        ("p = os.pidfd_open(os.getpid())", "pidfd"),
        ("f = os.open('/dev/ptmx', os.O_RDWR)", "ptmx"),
    ],
)
def test_what_clones_would_share_is_refused(process: Forkable, statement: str, what: str) -> None:
    fds = open_here()
    children = psutil.Process().children()
    process.ask(statement)
    with pytest.raises(UnavailableError, match=f"would share .*{what}"):
        process.fork()
    # The process goes on, and nothing is left of the attempt.
    assert process.ask("1 + 1") == "2"
    assert psutil.Process().children() == children
    assert open_here() == fds


def test_what_is_only_read_is_shared(process: Forkable) -> None:
    process.ask("files = [open(p) for p in ('/etc/passwd', '/dev/null', '/dev/urandom')]")
    process.ask("d = os.open('/', os.O_RDONLY)")
    with process.fork() as clone:
        assert clone.ask("os.listdir(d) == os.listdir('/')") == "True"


def test_a_descriptor_to_replace_must_be_open(process: Forkable) -> None:
    with pytest.raises(UnavailableError, match=r"descriptor 999 .* not open"):
        process.server.fork({999: 0})
    with pytest.raises(InvalidError, match="33 descriptors"):
        process.server.fork(dict.fromkeys(range(MAX_REPLACEMENTS + 1), 0))
    process.fork().close()


@pytest.mark.parametrize("junk", [b"x", b"x" * 152, b"x" * 9999])
def test_a_request_that_makes_no_sense_is_refused(process: Forkable, junk: bytes) -> None:
    process.fork().close()
    before = process.descriptors()
    with Path(os.devnull).open() as extra:
        socket.send_fds(process.server._ours, [junk], [extra.fileno()])
    with pytest.raises(UnavailableError, match="another version"):
        process.server._receive(fork_server._FORKED, fork_server._Clock(20), 0)
    assert process.descriptors() == before
    process.fork().close()
