"""Direct children start, stop on request, and never outlive the process that started them."""

import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from core_infra.errors import TimeoutExpiredError
from core_infra.process import ProgramNotFoundError, spawn
from process_programs import program
from support import is_running, wait_gone


@pytest.mark.parametrize("die_with_parent", [True, False])
def test_exit_code_and_output(*, die_with_parent: bool) -> None:
    with tempfile.TemporaryFile() as output:
        child = spawn(
            ["sh", "-c", "echo out; echo err >&2; exit 7"],
            output=output,
            die_with_parent=die_with_parent,
        )
        assert child.wait(30) == 7
        output.seek(0)
        assert output.read() == b"out\nerr\n"


def test_a_signal_is_a_negative_exit_code() -> None:
    child = spawn(["sh", "-c", "kill -USR1 $$"])
    assert child.wait(30) == -signal.SIGUSR1


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramNotFoundError, match="no-such-program-here"):
        spawn(["no-such-program-here"])


def test_wait_tells_what_still_runs() -> None:
    child = spawn(["sleep", "60"])
    with pytest.raises(TimeoutExpiredError, match="sleep"):
        child.wait(0.01)
    assert child.stop(grace=10) == "terminated"
    assert child.exit_code == -signal.SIGTERM


def test_stop_asks_first(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"trap 'exit 3' USR1; echo > {ready}; while :; do sleep 0.01; done"
    child = spawn(["sh", "-c", script])
    ready.read_text()  # the trap is set
    outcome = child.stop(ask=lambda: os.kill(child.pid, signal.SIGUSR1), grace=10)
    assert (outcome, child.exit_code) == ("asked", 3)


def test_stop_kills_what_ignores_everything(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"trap '' TERM; echo > {ready}; while :; do sleep 60; done"
    child = spawn(["sh", "-c", script])
    ready.read_text()  # the trap is set
    assert child.stop(grace=0.05) == "killed"
    assert child.stop() == "gone"


def test_stop_takes_the_whole_group(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    child = spawn(["sh", "-c", f"sleep 60 & echo $! > {fifo}; wait"])
    grandchild = int(fifo.read_text())
    child.stop(grace=10)
    wait_gone(grandchild)


def test_exit_callback_runs_also_when_it_comes_late() -> None:
    codes: list[int] = []
    seen = threading.Event()
    child = spawn(["sh", "-c", "exit 4"])

    def note(code: int) -> None:
        codes.append(code)
        seen.set()

    child.on_exit(note)
    assert seen.wait(30)
    child.on_exit(codes.append)
    assert codes == [4, 4]


def test_a_killed_parent_leaves_no_child() -> None:
    with subprocess.Popen(
        program("parent_of_child"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        parent.wait()
        wait_gone(pid)


def test_many_children_from_many_threads_are_all_reaped() -> None:
    codes: list[int] = []

    def work() -> None:
        codes.extend(spawn(["sh", "-c", f"exit {number}"]).wait(60) for number in range(25))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == sorted(list(range(25)) * 8)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    zombies = [pid for pid in children if not is_running(int(pid))]
    assert zombies == []


def test_descriptors_are_given_back() -> None:
    spawn(["true"]).wait(30)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        spawn(["true"]).wait(30)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
