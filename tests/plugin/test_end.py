"""However a run ends, nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import left_in, wait_gone

if TYPE_CHECKING:
    from pathlib import Path

ENDLESS = """
    def test_endless(core_vm):
        print(f"machine {core_vm.pid}.", flush=True)
        core_vm.exec("sleep 1000", timeout=1000)
"""


def start(pytester: pytest.Pytester, *args: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run that does not end; it and the process of its machine."""
    pytester.makepyfile(ENDLESS)
    command = [sys.executable, "-m", "pytest", "--core-vm", "-s", *args]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    for line in run.stdout:
        _, found, rest = line.partition("machine ")
        if found and rest[0].isdigit():
            return run, int(rest.partition(".")[0])
    pytest.fail("the run ended before its machine was up")


def test_killed(pytester: pytest.Pytester, runs: Path) -> None:
    run, machine = start(pytester)
    run.kill()
    run.communicate()
    wait_gone(machine)
    assert len(left_in(runs)) == 1
    pytester.makepyfile("def test_one(): pass")
    result = pytester.runpytest_subprocess("--core-vm")
    result.stdout.fnmatch_lines("core_vm: removed what earlier runs left: 1 directory")
    assert left_in(runs) == []


def test_killed_with_machines_that_may_outlive_it(pytester: pytest.Pytester, runs: Path) -> None:
    run, machine = start(pytester, "--core-vm-keep=failed")
    run.kill()
    run.communicate()
    pytester.makepyfile("def test_one(): pass")
    result = pytester.runpytest_subprocess("--core-vm")
    result.stdout.fnmatch_lines(
        "core_vm: removed what earlier runs left: 1 directory, 1 machine that still ran"
    )
    wait_gone(machine)
    assert left_in(runs) == []


def test_interrupted(pytester: pytest.Pytester, runs: Path) -> None:
    run, machine = start(pytester)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert "core_vm: 1 machine, " in output
    wait_gone(machine)
    assert left_in(runs) == []
