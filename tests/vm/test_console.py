"""The console's log and its pexpect object, on a socket that a test writes to."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from core_infra.vm import _console as console_module
from core_infra.vm._console import Console, ConsoleSpawn


class Wired:
    """A console and the machine's end of its line."""

    def __init__(self, path: Path) -> None:
        self.machine, host = socket.socketpair()
        self.console = Console(host, path)

    def close(self) -> None:
        self.machine.close()
        self.console.close()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    wired = Wired(tmp_path / "console.log")
    yield wired
    wired.close()


def test_every_byte_is_in_the_log_until_the_end(wired: Wired) -> None:
    data = bytes(range(256)) * 5000
    wired.machine.sendall(data)
    wired.machine.close()
    assert list(wired.console.follow())  # until the end
    assert wired.console.path.read_bytes() == data


def test_following_gives_lines_and_the_unfinished_last_one(wired: Wired) -> None:
    wired.machine.sendall(b"one\r\ntw")
    lines = wired.console.follow()
    assert next(lines) == "one"
    wired.machine.sendall(b"o\nth\xffee")
    wired.machine.close()
    assert list(lines) == ["two", "th\ufffdee"]


def test_expecting_begins_at_the_first_byte_and_ends_with_the_machine(wired: Wired) -> None:
    wired.machine.sendall("grüß dich\r\nlogin: ".encode())
    spawn = ConsoleSpawn(lambda: wired.console, timeout=30)
    spawn.expect_exact("grüß")
    spawn.expect("login: ")
    spawn.sendline("root")
    assert wired.machine.recv(100) == b"root\n"
    spawn.sendcontrol("c")
    assert wired.machine.recv(100) == b"\x03"
    with pytest.raises(pexpect.TIMEOUT):
        spawn.expect("never", timeout=0.05)
    wired.machine.close()
    with pytest.raises(pexpect.EOF):
        spawn.expect("never")
    assert not spawn.isalive()


def test_a_flood_does_not_fill_the_disk(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "_LIMIT", 100_000)
    for _ in range(100):
        wired.machine.sendall(b"x" * 50_000)
    wired.machine.close()
    list(wired.console.follow())
    assert wired.console.path.stat().st_size < 1_000_000
    assert "log is full" in wired.console.tail(1)


def test_the_tail_is_the_last_lines(wired: Wired) -> None:
    wired.machine.sendall("".join(f"{number}\r\n" for number in range(100)).encode())
    wired.machine.close()
    list(wired.console.follow())
    assert wired.console.tail(3) == "97\n98\n99"


def test_a_machine_that_ends_after_its_directory_is_removed_has_an_empty_log(wired: Wired) -> None:
    wired.machine.sendall(b"one\r\n")
    assert next(wired.console.follow()) == "one"
    wired.console.path.unlink()
    assert wired.console.panic() is None
    assert wired.console.tail(5) == wired.console.text() == ""
