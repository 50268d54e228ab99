"""However a run ends, nothing of it stays."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import left_in, wait_gone

if TYPE_CHECKING:
    from pathlib import Path


ENDLESS = """
    from pathlib import Path

    def test_endless(core_vm):
        Path("machine").write_text(str(core_vm.pid))
        core_vm.exec("sleep 1000", timeout=1000)
"""


def start(pytester: pytest.Pytester, *args: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run that does not end; it and the process of its machine, which is up."""
    pytester.makepyfile(ENDLESS)
    fifo = pytester.path / "machine"
    os.mkfifo(fifo)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--core-vm", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    # Opened for writing, too, so that this does not wait for a writer.
    reader, ended = os.open(fifo, os.O_RDWR), os.pidfd_open(run.pid)
    try:
        ready, _, _ = select.select([reader, ended], [], [])
        assert reader in ready, run.communicate()
        return run, int(os.read(reader, 100))
    finally:
        os.close(reader)
        os.close(ended)
        fifo.unlink()


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


@pytest.mark.parametrize("args", [[], ["-n1"]], ids=["alone", "xdist"])
def test_interrupted(pytester: pytest.Pytester, runs: Path, args: list[str]) -> None:
    run, machine = start(pytester, *args)
    os.killpg(run.pid, signal.SIGINT)  # what Ctrl-C on a terminal does
    output, _ = run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    wait_gone(machine)
    assert left_in(runs) == []


PAIR = """
    import pytest

    @pytest.mark.parametrize("number", [1, 2])
    def test_pair(core_vm, number):
        core_vm.exec(f"echo number {number}")
        assert number != 2
"""


def test_workers_share_what_was_prepared_and_their_reports_arrive(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(test_it=PAIR)
    result = pytester.runpytest_subprocess("--core-vm", "-n2")
    result.assert_outcomes(passed=1, failed=1)
    lines = result.stdout
    assert sum(line.startswith("core_vm: image ") for line in lines.lines) == 1
    lines.fnmatch_lines(
        ["*the test, step by step*", "+* s  $ echo number 2", "  stdout | number 2", "*console*"]
    )
    lines.fnmatch_lines("core_vm: 2 machines, started in *.* s (median), *")
    assert left_in(runs) == []
