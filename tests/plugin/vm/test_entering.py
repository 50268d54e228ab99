"""Shells in machines from tests, from the debugger, and at the first failure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pexpect

from support import left_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PROMPT = "core-infra:~# "


def start(directory: Path, *args: str) -> pexpect.spawn[str]:
    argv = ["-m", "pytest", "--core-vm", "-p", "no:hypothesispytest", *args]
    return pexpect.spawn(
        sys.executable,
        argv,
        cwd=str(directory),
        encoding="utf-8",
        timeout=60,
        dimensions=(33, 101),
    )


def test_a_shell_is_a_terminal_also_in_the_debugger(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(
        """
        def test_it(core_vm):
            core_vm.exec("echo hello > /srv/note")
            print("captured")
            assert core_vm.shell() == 3
            breakpoint()
            assert core_vm.exec("true").exit_code == 1
        """
    )
    terminal = start(pytester.path)
    terminal.expect_exact("exit or Ctrl-] returns")
    terminal.expect_exact(PROMPT)
    assert "captured" not in (terminal.before or "")
    terminal.sendline("cat /srv/note; stty size")
    terminal.expect(r"hello\s+33 101\s")
    terminal.setwinsize(40, 90)
    terminal.sendline("until [ \"$(stty size)\" = '40 90' ]; do sleep 0.1; done; echo resi''zed")
    terminal.expect_exact("resized")
    terminal.sendline("echo on''e; sleep 1000")
    terminal.expect_exact("one")
    terminal.send("\x03")
    terminal.sendline("echo tw''o; sleep 1000")
    terminal.expect_exact("two")
    terminal.send("\x1a")
    terminal.expect("Stopped")
    terminal.sendline("kill -9 %1; fg; echo gon''e")
    terminal.expect_exact("gone")
    terminal.sendline("exit 3")
    terminal.expect_exact("(Pdb)")
    terminal.sendline("core_vm.shell()")
    terminal.expect_exact(PROMPT)
    terminal.send("\x1d")
    terminal.expect_exact("(Pdb)")
    terminal.sendline("p 6 * 7")
    terminal.expect_exact("42")
    terminal.sendline("core_vm.shell()")
    terminal.expect_exact(PROMPT)
    terminal.sendline("exit")
    terminal.expect_exact("(Pdb)")
    terminal.sendline("c")
    terminal.expect(pexpect.EOF)
    assert "AssertionError" in (terminal.before or "")
    assert "1 failed" in (terminal.before or "")
    assert left_in(runs) == []


def test_a_board_shows_what_runs_and_leaves_the_terminal_to_others(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(
        test_it="""
        def test_a(core_vm):
            core_vm.exec("until [ -e /srv/seen ]; do sleep 0.1; done & echo", check=True)
            core_vm.shell()

        def test_b():
            assert 0, "the reason"

        def test_c(core_vm):
            core_vm.exec("true", check=True)
        """
    )
    terminal = start(pytester.path, "--core-vm-live")
    terminal.expect_exact("test_it.py::test_a")
    terminal.expect_exact("exit or Ctrl-] returns")
    terminal.expect_exact(PROMPT)
    terminal.sendline("echo fr''ee")
    terminal.expect_exact("free")
    terminal.send("\x1d")
    terminal.expect(r"FAILED test_it.py::test_b\S* - AssertionError: the reason")
    terminal.expect(pexpect.EOF)
    assert "1 failed, 2 passed" in (terminal.before or "")
    plain = pytester.runpytest_subprocess("--core-vm", "--core-vm-live", "-k", "test_b")
    plain.stdout.fnmatch_lines("test_it.py F *")
    assert left_in(runs) == []


def test_the_first_failure_opens_a_shell_and_the_run_continues(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(
        """
        def test_a(core_vm):
            core_vm.write_text("/srv/note", "as it failed")
            assert 0, "the reason"

        def test_b(core_vm):
            assert 0
        """
    )
    terminal = start(pytester.path, "--core-vm-enter")
    terminal.expect_exact("test_a failed in call")
    terminal.expect_exact("the reason")
    terminal.expect_exact(PROMPT)
    terminal.sendline("cat /srv/note")
    terminal.expect_exact("as it failed")
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    rest = terminal.before or ""
    assert "2 failed" in rest
    assert "failed in call" not in rest
    assert left_in(runs) == []


def test_without_a_terminal_it_is_one_clear_error(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(
        """
        def test_it(core_vm):
            core_vm.shell()
        """
    )
    result = pytester.runpytest_subprocess("--core-vm")
    result.stdout.fnmatch_lines("*cannot open a shell: standard input and output are not a term*")
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-enter", "-n1")
    result.stderr.fnmatch_lines("*--core-vm-enter opens a shell on this terminal*")
    assert left_in(runs) == []
