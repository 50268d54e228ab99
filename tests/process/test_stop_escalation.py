"""The time that programs have to end by themselves."""

from __future__ import annotations

import shlex
import signal

import pytest

from core_infra.process import LogPattern, RunOptions, RunTimeoutError, Service
from core_infra.process._managed_process import ManagedProcess
from process_programs import PYTHON, program
from support import is_running


@pytest.fixture
def cleaner() -> str:
    return shlex.join(program("cleaner"))


@pytest.mark.parametrize("command", ["{}", "{}; true", "{} & wait", "exec {}"])
def test_what_a_shell_has_started_has_its_time(
    service: Service, cleaner: str, command: str
) -> None:
    process = service.start("sh", "-c", command.format(cleaner))
    process.wait_ready(LogPattern("up"))
    process.stop(60)
    assert process.output() == "up\ncleaned up\n"
    assert process.leftovers() == []


def test_what_is_left_of_a_program_that_has_ended_has_its_time(
    service: Service, cleaner: str
) -> None:
    process = service.start("sh", "-c", f"{cleaner} &")
    process.wait_ready(LogPattern("up"))
    process.wait(60)
    [left] = process.leftovers()
    process.stop(60)
    assert not is_running(left)
    assert process.output_bytes().endswith(b"cleaned up\n")


def test_a_stopped_process_has_its_time(service: Service, cleaner: str) -> None:
    process = service.start("sh", "-c", f"{cleaner} & kill -STOP $$; wait")
    process.wait_ready(LogPattern("up"))
    process.signal(signal.SIGSTOP)
    process.stop(60)
    assert "cleaned up" in process.output()


def test_a_timeout_gives_the_group_its_time(service: Service, cleaner: str) -> None:
    with pytest.raises(RunTimeoutError) as caught:
        service.run_with_options(
            RunOptions("sh", ["-c", f"{cleaner}; true"], timeout=2, grace_period=60)
        )
    assert caught.value.output.endswith(b"cleaned up\n")


def test_the_time_of_a_group_is_bounded(service: Service) -> None:
    deaf = f'{PYTHON} -c "import signal, time; signal.signal(15, signal.SIG_IGN); '
    process = service.start("sh", "-c", f"{deaf}print('up', flush=True); time.sleep(600)\"; true")
    process.wait_ready(LogPattern("up"))
    process.stop(0.3)
    assert process.leftovers() == []
    assert process.exit_code == -signal.SIGTERM


def test_kill_does_not_wait_for_a_group_that_is_given_time(service: Service) -> None:
    process = service.start("sh", "-c", "(trap '' TERM; echo up; sleep 600; sleep 600) & wait")
    process.wait_ready(LogPattern("up"))
    assert isinstance(process, ManagedProcess)
    process.start_stopping(600)
    process.kill()
    assert process.leftovers() == []


def test_a_zombie_is_not_waited_for(service: Service) -> None:
    program = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"  # a daemon in a session of its own, whose child is a zombie
        "    pid = os.fork()\n"
        "    if pid == 0: os._exit(0)\n"
        "    os.setsid()\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
        "time.sleep(600)\n"
    )
    process = service.start(PYTHON, "-c", program)
    process.wait_ready(LogPattern("up"))
    process.stop(600)
    assert process.leftovers() == []


def test_the_signal_that_asks_is_chosen(service: Service) -> None:
    trap = "trap 'echo asked; exit 4' HUP; echo up; while :; do sleep 0.01; done"
    options = RunOptions("sh", ["-c", trap], stop_signal=signal.SIGHUP, grace_period=60)
    process = service.start_with_options(options)
    process.wait_ready(LogPattern("up"))
    process.stop()
    assert process.exit_code == 4
    assert "asked" in process.output()


def test_run_returns_what_is_written_a_moment_after_the_end(service: Service) -> None:
    late = "(sleep 0.3; echo late) & echo early"
    assert service.run_with_options(RunOptions("sh", ["-c", late], linger=60)) == "early\nlate\n"
    assert service.run_with_options(RunOptions("sh", ["-c", late], linger=0)) == "early\n"


def test_a_timeout_during_that_moment_is_none_of_the_program(service: Service) -> None:
    options = RunOptions("sh", ["-c", "echo out; sleep 600 &"], linger=600, timeout=2)
    assert service.run_with_options(options) == "out\n"
