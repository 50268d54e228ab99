"""Programs on a terminal of their own."""

from __future__ import annotations

import re
import signal

import pexpect
import pytest
from pexpect.replwrap import REPLWrapper

from core_infra.errors import InvalidError, WrongStateError
from core_infra.process import RunOptions, Service, Status
from process_programs import PYTHON, program


def test_a_dialogue(service: Service) -> None:
    process = service.start_with_options(RunOptions(PYTHON, program("dialogue")[1:], pty=True))
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


def test_its_size_and_its_echo(service: Service) -> None:
    watch = "trap 'stty size' WINCH; stty size; while :; do sleep 0.01; done"
    options = RunOptions("sh", ["-c", watch], pty=True, pty_size=(30, 90))
    terminal = service.start_with_options(options).terminal
    terminal.expect("30 90")
    assert terminal.getwinsize() == (30, 90)
    terminal.setwinsize(40, 200)
    terminal.expect("40 200")
    assert terminal.echo
    terminal.setecho(state=False)
    assert terminal.waitnoecho(0)
    for ask in (lambda: terminal.setwinsize(0, 80), lambda: terminal.sendcontrol("é")):
        with pytest.raises(InvalidError):
            ask()


def test_it_has_what_pexpect_has(service: Service) -> None:
    process = service.start_with_options(RunOptions("cat", pty=True))
    terminal = process.terminal
    has = {name for name in dir(pexpect.spawn) if not name.startswith("_")}
    assert has - set(dir(terminal)) == {"interact", "use_native_pty_fork"}
    assert terminal.pid == process.pid
    assert terminal.isatty()
    terminal.write("one")
    terminal.writelines([" two", "\n"])
    terminal.expect_exact("one two\r\none two\r\n")
    terminal.sendcontrol("[")
    terminal.expect_exact("^[")
    terminal.sendintr()
    assert terminal.wait() == -signal.SIGINT
    assert (terminal.exitstatus, terminal.signalstatus) == (None, signal.SIGINT)
    assert terminal.terminated
    with pytest.raises(WrongStateError):
        terminal.getwinsize()
    with pytest.raises(InvalidError, match="no descriptor"):
        terminal.fileno()


def test_a_repl(service: Service) -> None:
    options = RunOptions(PYTHON, ["-i", "-q"], env={"PYTHON_BASIC_REPL": "1"}, pty=True)
    change = "import sys; sys.ps1={0!r}; sys.ps2={1!r}"
    repl = REPLWrapper(service.start_with_options(options).terminal, ">>> ", change)
    assert repl.run_command("6 * 7") == "42\r\n"
    assert repl.run_command("for n in (1, 2):\n    print(n)\n").endswith("1\r\n2\r\n")


@pytest.mark.parametrize("typed", ["", "a line\n", "within a line"])
def test_the_end_of_the_input_is_typed(service: Service, typed: str) -> None:
    process = service.start_with_options(RunOptions("cat", pty=True))
    process.send_input(typed)
    process.close_stdin()
    process.close_stdin()
    assert process.wait(60) == 0
    with pytest.raises(WrongStateError):
        process.send_input("more")


def test_closing_it_ends_the_process(service: Service) -> None:
    process = service.start_with_options(RunOptions("cat", pty=True))
    process.terminal.close()
    assert not process.is_running()


def test_run_on_a_terminal(service: Service) -> None:
    assert service.run_with_options(RunOptions("tty", pty=True)).startswith("/dev/pts/")


def test_no_terminal_without_asking_for_one(service: Service) -> None:
    process = service.start("cat")
    with pytest.raises(WrongStateError, match="pty=True"):
        process.terminal  # noqa: B018 - a property
    with pytest.raises(InvalidError, match="pty"):
        service.start_with_options(RunOptions("cat", pty=True, stdin="text"))
