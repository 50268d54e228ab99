"""Who may fork a process, who its clones belong to, and when they end."""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import pytest

from core_infra.errors import TimeoutExpiredError, UnavailableError, WrongStateError
from core_infra.vm._hypervisors import fork_server
from core_infra.vm._hypervisors.fork_server import ForkServer
from forkable import Forkable

if TYPE_CHECKING:
    from collections.abc import Iterator

HELPERS = Path(__file__).parents[2] / "helpers"
PROGRAMS = Path(__file__).parent / "programs"
DRIVER = PROGRAMS / "forking.py"


@pytest.fixture
def process() -> Iterator[Forkable]:
    with Forkable.start() as process:
        yield process


def test_the_child_is_ours_and_has_its_own_session(process: Forkable) -> None:
    with process.fork() as clone, clone.fork() as grandchild:
        for child in (clone, grandchild):
            assert psutil.Process(child.pid).ppid() == os.getpid()
            assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid


def test_only_its_parent_can_fork_a_process(process: Forkable) -> None:
    """Another process that has the control socket can't."""
    with os.fdopen(os.dup(process.server._ours.fileno()), closefd=True) as control:
        answer = subprocess.run(
            [sys.executable, PROGRAMS / "not_the_parent.py", str(control.fileno())],
            check=True,
            capture_output=True,
            text=True,
            pass_fds=[control.fileno()],
        )
    assert answer.stdout.startswith(f"its parent is process {os.getpid()}, and only the parent")


def test_programs_that_it_starts_have_no_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    with Forkable.start() as process:
        assert process.ask("os.environ['LD_PRELOAD'], 'CORE_INFRA_FORK_SERVER' in os.environ") == (
            "('libm.so.6', False)"
        )
        assert process.ask("'libm.so' in open('/proc/self/maps').read()") == "True"
        assert process.ask("os.system('true')") == "0"


def test_a_program_that_has_ended_cannot_be_forked() -> None:
    server = ForkServer()
    subprocess.run(server.command(["true"]), pass_fds=server.fds(), check=True)
    server.inherited()
    with pytest.raises(UnavailableError, match="it has ended"):
        server.fork({})
    server.close()
    with pytest.raises(WrongStateError, match="closed"):
        server.fork({})


def test_a_script_that_starts_another_program_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexec cat\n")
    script.chmod(0o755)
    server = ForkServer()
    with subprocess.Popen(
        server.command([str(script)]),
        pass_fds=server.fds(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        server.inherited()
        popen.stdin.write(b"x")
        assert popen.stdout.read(1) == b"x"  # it is cat now
        with pytest.raises(UnavailableError, match="can't have a library preloaded"):
            server.fork({})
        popen.kill()
    server.close()


def test_a_process_that_is_stopped_is_not_waited_for_ever(process: Forkable) -> None:
    process.fork().close()
    monkeypatched = fork_server._GRACE
    fork_server._GRACE = 0.2
    try:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutExpiredError, match="did not answer"):
            process.fork(timeout=0.1)
    finally:
        fork_server._GRACE = monkeypatched
        os.kill(process.pid, signal.SIGCONT)
    # Nobody wants that clone any more: it is not made.
    assert process.ask("1") == "1"
    assert process.pid not in [child.ppid() for child in psutil.Process().children()]
    with pytest.raises(WrongStateError, match="closed"):
        process.fork()


def test_where_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UnavailableError, match=r"forkserver-riscv64\.so"):
        ForkServer()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnavailableError, match="needs Linux"):
        ForkServer()


class Driver:
    """A process that forks another again and again, and can be killed; knows what came of it."""

    def __init__(self, *, die: bool, again: bool) -> None:
        self._mark = uuid.uuid4().hex
        self._popen = subprocess.Popen(
            [sys.executable, DRIVER, *(["die"] if die else []), *(["again"] if again else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(HELPERS), "MARK": self._mark},
        )

    def await_fork(self) -> None:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline()

    def family(self) -> list[psutil.Process]:
        """All that inherited our mark and has not ended, the eldest first: the driver, the process
        that it forks, its clones."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MARK") == self._mark:
                    found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.family():
            process.kill()
        self._popen.communicate()


def end_within(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all of them end; where nobody waits for orphans, their entries remain."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(process.pid)
            ended, _, _ = select.select([pidfd], [], [], max(deadline - time.monotonic(), 0))
            os.close(pidfd)
            if not ended:
                return False
    return True


@pytest.mark.parametrize("die", [True, False])
def test_a_clone_ends_with_us_if_it_shall(*, die: bool) -> None:
    with Driver(die=die, again=False) as driver:
        driver.await_fork()
        us, _forked, clone = driver.family()
        us.kill()
        assert end_within([clone], 20 if die else 0.3) is die


@pytest.mark.parametrize("forks", range(3))
def test_no_clone_is_left_when_we_are_killed_in_a_fork(forks: int) -> None:
    with Driver(die=True, again=True) as driver:
        for _ in range(forks + 1):
            driver.await_fork()
        us, forked, *_clones = driver.family()
        us.kill()
        # The one that is forked has no guard in this test; the last that it does may be a clone.
        assert end_within([us], 20)
        assert end_within([p for p in driver.family() if p.pid != forked.pid], 20)
