from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

import pexpect
from click.testing import CliRunner

from core_infra._cli.main import main
from support import is_running, left_in, wait_gone, ways

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TESTS = """
    import pytest

    def test_good(core_vm):
        print(f"good {core_vm.pid}")

    def test_bad(core_vm):
        core_vm.write_text("/root/note", "still here")
        assert core_vm.exec("true").exit_code == 1
"""


def test_a_failed_tests_machine_can_be_entered_and_ended(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-keep=failed", "-rP")
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    report, _, end = text.partition("= machines left running =")
    assert "vm2 of test_it.py::test_bad" in end
    enter, pid = ways(end)
    assert (enter, pid) == ways(report), "the report and the end tell the same"
    assert is_running(pid)
    good = re.search(r"good (\d+)", text)
    assert good
    assert not is_running(int(good[1]))

    program, *args = shlex.split(enter)
    terminal = pexpect.spawn(program, args, encoding="utf-8", timeout=60)
    terminal.expect_exact("Ctrl-] leaves")
    terminal.sendline("cat /root/note")
    terminal.expect_exact("still here")
    terminal.send("\x1d")
    terminal.expect_exact(f"kill {pid}")
    terminal.expect(pexpect.EOF)

    vm = [program, *args[:-2]]
    listed = subprocess.check_output([*vm, "ps"], text=True)
    assert f"{pid}" in listed
    assert "running (kept of test_it.py::test_bad)" in listed
    ran = subprocess.run([*vm, "exec", "vm2", "cat", "note"], capture_output=True, check=False)
    assert (ran.stdout, ran.returncode) == (b"still here", 0)
    subprocess.run([*vm, "cp", f"{pid}:/root/note", "copied"], check=True)
    assert (pytester.path / "copied").read_text() == "still here"
    ran = subprocess.run([*vm, "exec", "vm7", "true"], capture_output=True, check=False)
    assert b"there is no machine 'vm7'" in ran.stderr

    pytester.makepyfile(test_it="def test_one(): pass")
    assert "removed" not in pytester.runpytest_subprocess("--core-vm").stdout.str()
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)
    pytester.runpytest_subprocess("--core-vm").stdout.fnmatch_lines("core_vm: removed *")
    assert left_in(runs) == []


def test_always_keeps_the_machines_of_tests_that_pass(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(
        """
        def test_two(core_vm_factory):
            core_vm_factory(name="stopped").stop()
            core_vm_factory(name="one")
        """
    )
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-keep=always", "-n1")
    result.assert_outcomes(passed=1)
    assert [name.rpartition("-")[2] for name in left_in(runs)] == ["one"]
    assert "stopped of" not in result.stdout.str()
    enter, pid = ways(result.stdout.str())
    vm = shlex.split(enter)[:-2]
    argv = [*vm, "stop", "one", str(pid)]
    stopped = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert stopped.stdout == "one: the guest shut down\n"
    assert f"no kept machine has the process id {pid}" in stopped.stderr
    assert stopped.returncode == 3
    assert not is_running(pid)
    assert left_in(runs) == []


def test_entering_what_is_not_there_is_one_sentence(runs: Path) -> None:
    assert not runs.exists()
    result = CliRunner().invoke(main, ["vm", "console", "1"])
    assert result.exit_code == 3
    assert "no kept machine has the process id 1" in result.output
