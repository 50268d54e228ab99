"""Programs on a terminal of their own."""

from __future__ import annotations

import re

import pexpect
import pytest

from core_infra.errors import InvalidError, WrongStateError
from core_infra.process import RunOptions, Service, Status
from process_programs import PYTHON

ASK = """
import os, sys
assert os.isatty(0) and os.isatty(1) and os.isatty(2)
assert os.tcgetpgrp(0) == os.getpgid(0), "the terminal is not ours"
name = input("your name? ")
print("hello,", name, os.get_terminal_size().columns)
while True:
    try:
        input("> ")
    except KeyboardInterrupt:
        print("interrupted")
    except EOFError:
        sys.exit(7)
"""


def test_a_dialogue(service: Service) -> None:
    process = service.start_with_options(RunOptions(PYTHON, ["-c", ASK], pty=True))
    terminal = process.terminal
    terminal.expect("your name[?] ")
    terminal.sendline("é")
    terminal.expect(r"hello, (\w+) 80\r\n")
    assert isinstance(terminal.match, re.Match)
    assert terminal.match[1] == "é"
    terminal.expect("> ")
    terminal.sendcontrol("c")
    terminal.expect("interrupted")
    terminal.expect("> ")
    assert terminal.isalive()
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert process.wait(30) == 7
    assert process.status is Status.EXITED
    assert "hello, é 80\r\n" in process.output()
    assert process.terminal is terminal


def test_the_terminal_says_what_it_waited_for(service: Service) -> None:
    process = service.start_with_options(RunOptions("cat", pty=True))
    with pytest.raises(pexpect.TIMEOUT, match="wrote nothing"):
        process.terminal.expect("anything", timeout=0.01)


def test_run_on_a_terminal(service: Service) -> None:
    assert service.run_with_options(RunOptions("tty", pty=True)).startswith("/dev/pts/")


def test_no_terminal_without_asking_for_one(service: Service) -> None:
    process = service.start("cat")
    with pytest.raises(WrongStateError, match="pty=True"):
        process.terminal  # noqa: B018 - a property
    with pytest.raises(InvalidError, match="pty"):
        service.start_with_options(RunOptions("cat", pty=True, stdin="text"))
