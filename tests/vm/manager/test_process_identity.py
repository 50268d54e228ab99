"""A pid is used again; a pid with its start is not."""

from __future__ import annotations

import os
import signal
import subprocess

from core_infra.vm._manager.process_identity import ForeignProcess, start_of


def test_a_process_is_known_by_its_start() -> None:
    process = subprocess.Popen(["sleep", "60"])
    start = start_of(process.pid)
    assert start is not None
    assert start == start_of(process.pid)
    assert start != start_of(os.getpid())
    found = ForeignProcess.find(process.pid, start)
    assert found is not None
    with found:
        assert not found.wait(0)
        found.signal(signal.SIGTERM)
        assert found.wait(30)
        found.signal(signal.SIGTERM)
        assert start_of(process.pid) is None, "a zombie does not run"
        assert ForeignProcess.find(process.pid, start) is None
    process.wait()
    assert start_of(process.pid) is None


def test_another_process_with_the_same_pid_is_not_the_one() -> None:
    assert ForeignProcess.find(os.getpid(), "0/1") is None
    assert ForeignProcess.find(None, "0/1") is None
    assert ForeignProcess.find(os.getpid(), None) is None
    assert ForeignProcess.find(-1, "0/1") is None
