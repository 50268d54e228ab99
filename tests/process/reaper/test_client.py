"""Nothing that a program started escapes."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import subprocess
import threading
import warnings
from collections import deque
from pathlib import Path

import pytest

from core_infra._eventloop.supervisor import supervisor
from core_infra.errors import UnavailableError, WrongStateError
from core_infra.process import LogPattern, RunOptions, Service
from core_infra.process._reaper import registry
from core_infra.process._reaper.client import GROUPS
from core_infra.process._reaper.protocol import RequestSocket
from core_infra.process._reaper.registry import reaper
from process_programs import PYTHON, output_of, program
from support import is_running, wait_gone


def test_a_daemon_without_session_parent_or_environment_is_found_and_killed(
    service: Service,
) -> None:
    for _ in range(10):
        process = service.start(*program("daemon"))
        assert process.wait(30) == 0
        [daemon] = process.leftovers()
        process.kill()
        assert not is_running(daemon)


def test_daemons_belong_to_the_process_that_started_them(service: Service) -> None:
    first, second = (service.start(*program("daemon")) for _ in range(2))
    first.wait(30)
    second.wait(30)
    [of_first], [of_second] = first.leftovers(), second.leftovers()
    first.kill()
    assert not is_running(of_first)
    assert is_running(of_second)


def test_daemons_of_removed_processes_go_with_the_service() -> None:
    with Service() as service:
        service.run(*program("daemon"))
        [left] = service.leftovers()
        assert left.process is None
    assert not is_running(left.pid)


def test_one_service_does_not_end_what_another_started(service: Service) -> None:
    process = service.start("sleep", "60")
    with Service() as other:
        other.start("sleep", "60")
    assert process.is_running()


@pytest.fixture
def _few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all but the last twenty had been given already."""
    monkeypatch.setattr(registry, "_numbers", itertools.count(GROUPS - 20))
    monkeypatch.setattr(registry, "_released", deque())


@pytest.mark.usefixtures("_few_numbers")
def test_a_number_is_not_given_twice_while_its_service_lives() -> None:
    service = Service()
    process = service.start("sleep", "600")
    forgotten = Service()
    of_forgotten = forgotten.start("sleep", "600")
    del forgotten
    for _ in range(50):  # each number comes round
        with Service() as other:
            other.run("true")
    assert process.is_running()
    assert of_forgotten.is_running()
    with pytest.raises(UnavailableError, match="services of processes"):
        [Service() for _ in range(20)]
    of_forgotten.kill()
    with Service() as other:
        assert other.run("echo", "again") == "again\n"
    service.shutdown()


@pytest.mark.usefixtures("_few_numbers")
def test_a_service_that_is_over_does_not_touch_the_next_one_with_its_number() -> None:
    over = Service()
    over.shutdown()
    others = [Service() for _ in range(20)]
    for service in others:
        service.start("sleep", "600")
    over.shutdown()
    assert over.leftovers() == []
    assert [len(service.leftovers()) for service in others] == [1] * 20
    for service in others:
        service.shutdown()


def test_a_daemon_without_a_mark_belongs_to_the_only_service() -> None:
    assert output_of("unmarked_daemon") == "True\n[]\nTrue\nFalse\n"


def test_a_chain_of_forks_does_not_outrun_the_end(service: Service) -> None:
    chain = "import os\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()"
    process = service.start(PYTHON, "-c", chain)
    process.wait(30)
    process.kill()
    assert process.leftovers() == []


def test_a_tree_ends_with_its_root(service: Service) -> None:
    tree = "for i in 1 2 3; do (setsid sh -c 'sleep 100 & sleep 100' &); done; echo up; sleep 100"
    process = service.start("sh", "-c", tree)
    process.wait_ready(LogPattern("up"))
    pids = process.leftovers()
    process.kill()
    assert [pid for pid in pids if is_running(pid)] == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_end_of_a_process_kills_all_but_the_detached(how: signal.Signals | None) -> None:
    with subprocess.Popen(
        program("parent_of_trees"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        *pids, detached = map(int, parent.stdout.readline().split())
        if how is None:
            parent.stdin.close()  # it ends by itself
        else:
            parent.send_signal(how)
        parent.wait()
        for pid in pids:
            wait_gone(pid)
        assert is_running(detached)
        os.kill(detached, signal.SIGKILL)


def test_even_a_killed_reaper_leaves_nothing_and_is_replaced(service: Service) -> None:
    process = service.start("sleep", "600")
    assert process.pid is not None
    lost = reaper()
    os.kill(lost.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    wait_gone(process.pid)
    assert service.run("echo", "again") == "again\n"
    assert reaper() is not lost


def test_a_lost_reaper_in_a_reference_cycle_is_collected_without_a_warning() -> None:
    ours, theirs = socket.socketpair()
    requests = RequestSocket(ours)
    requests.itself = requests  # type: ignore[attr-defined]
    del ours, requests
    with theirs, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        assert theirs.recv(1) == b""
    assert caught == []


def test_a_forked_child_leaves_its_parents_programs_alone(service: Service) -> None:
    process = service.start("sleep", "60")
    pid = os.fork()
    if pid == 0:
        try:
            service.shutdown()
            with pytest.raises(WrongStateError, match="forked"):
                service.start("true")
            for use in (process.kill, process.wait, lambda: process.send_input("text")):
                with pytest.raises(WrongStateError, match="forked"):
                    use()
            with Service() as own:
                assert own.run("echo", "mine") == "mine\n"
        except BaseException:  # noqa: BLE001 - the exit code has it
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert process.is_running()
    assert service.run("echo", "ours") == "ours\n"


def test_nothing_of_many_short_programs_is_left(service: Service) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    service.run("true")
    before = descriptors()
    for _ in range(200):
        service.run("true")
        service.start("true").wait()
    service.clear()
    assert descriptors() <= before
    reaper_pid = reaper().pid
    assert Path(f"/proc/{reaper_pid}/task/{reaper_pid}/children").read_text() == ""
    assert list(service.list()) == []


def test_no_end_is_lost_while_nobody_listens(service: Service) -> None:
    reader, writer = os.pipe()
    options = RunOptions("cat", stdin=reader)  # all end when the pipe does
    processes = [service.start_with_options(options) for _ in range(600)]  # over the socket's size
    os.close(reader)
    go_on, held = threading.Event(), threading.Event()

    def hold_up() -> None:
        held.set()
        go_on.wait()

    supervisor().post(hold_up)
    held.wait()
    os.close(writer)
    for process in processes:
        assert process.pid is not None
        wait_gone(process.pid)
    go_on.set()
    assert [process.wait(30) for process in processes] == [0] * 600


def test_options_are_those_of_one_program_only(service: Service) -> None:
    one = service.start_with_options(RunOptions("sleep", ["60"], grace_period=0))
    other = service.start("sleep", "60")
    one.stop()
    assert other.is_running()
