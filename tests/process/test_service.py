"""Starting programs, and what is known of them."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from core_infra._eventloop.supervisor import supervisor
from core_infra.errors import InvalidError, TimeoutExpiredError, WrongStateError
from core_infra.process import (
    FileExists,
    LogPattern,
    ProcessNotFoundError,
    RunFailedError,
    RunOptions,
    RunTimeoutError,
    Service,
    Status,
    Stream,
)
from core_infra.process._reaper.registry import reaper
from process_programs import PYTHON, STUBBORN, output_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_run_returns_the_output(service: Service) -> None:
    assert service.run("sh", "-c", "echo out; echo err >&2") in ("out\nerr\n", "err\nout\n")
    assert service.list() == []


def test_output_is_freed_with_its_process_without_the_garbage_collector(service: Service) -> None:
    gc.disable()
    try:
        process = service.start("sh", "-c", "echo out; echo err >&2")
        process.wait()
        freed = weakref.ref(process)
        service.clear()
        supervisor().call(lambda: None)  # it may still be within the last callback
        del process
        assert freed() is None
    finally:
        gc.enable()


def test_a_failure_carries_code_command_and_output(service: Service) -> None:
    with pytest.raises(RunFailedError, match=r"(?s)exit code 3.*what went wrong") as caught:
        service.run("sh", "-c", "echo fine; echo what went wrong >&2; exit 3")
    error = caught.value
    assert error.exit_code == 3
    assert error.command[0] == "sh"
    assert (error.stdout, error.stderr) == (b"fine\n", b"what went wrong\n")
    assert sorted(error.output) == sorted(b"fine\nwhat went wrong\n")


def test_run_gives_nothing_to_read(service: Service) -> None:
    assert service.run("cat") == ""


def test_stdin_is_text_bytes_or_a_file(service: Service, tmp_path: Path) -> None:
    assert service.run_with_options(RunOptions("cat", stdin="text é")) == "text é"
    large = os.urandom(3 << 20)
    digest = service.run_with_options(RunOptions("wc", ["-c"], stdin=large))
    assert int(digest) == len(large)
    (tmp_path / "file").write_text("from a file")
    with (tmp_path / "file").open() as file:
        assert service.run_with_options(RunOptions("cat", stdin=file)) == "from a file"


def test_input_is_sent_until_it_is_closed(service: Service) -> None:
    process = service.start("cat")
    process.send_input("one\n")
    process.send_input(b"two\n")
    process.close_stdin()
    process.close_stdin()
    assert process.wait(30) == 0
    assert process.output() == "one\ntwo\n"
    with pytest.raises(WrongStateError, match="exited"):
        process.send_input("three\n")


def test_more_input_than_a_pipe_holds_blocks_nobody(service: Service, tmp_path: Path) -> None:
    reads_late = 'while [ ! -e "$1" ]; do sleep 0.01; done; wc -c'
    process = service.start("sh", "-c", reads_late, "sh", str(tmp_path / "read"))
    process.send_input(b"x" * (5 << 20))
    process.send_input("rest")
    process.close_stdin()
    (tmp_path / "read").touch()
    assert process.wait(30) == 0
    assert int(process.output()) == (5 << 20) + 4


# glibc's posix_spawn(), which Python 3.13's subprocess uses, ignores a signal of its own.
SPAWNS = "import os, sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], {}); os.waitpid(p, 0)"


def test_what_cannot_be_asked_of_a_process_is_an_error(service: Service) -> None:
    process = service.start("cat")
    wrong: list[Callable[[], object]] = [
        lambda: process.stop(cast("Any", "soon")),
        lambda: process.wait(math.nan),
        lambda: process.wait_ready(FileExists("/none"), timeout=math.nan),
        lambda: process.signal(999),
        lambda: process.send_input(cast("Any", 3)),
        lambda: process.send_input("\ud800"),
    ]
    for ask in wrong:
        with pytest.raises(InvalidError):
            ask()
    assert process.is_running()


def test_info_tells_what_happened(service: Service) -> None:
    program = "x = bytearray(50 << 20)\nfor _ in range(10**6): pass"
    process = service.start(PYTHON, "-c", program)
    assert process.info().exit_code is None
    assert process.info().usage is None
    process.wait(30)
    info = process.info()
    assert (info.id, info.command, info.args) == ("proc-1", PYTHON, ("-c", program))
    assert (info.status, info.exit_code, info.pid) == (Status.EXITED, 0, process.pid)
    assert info.dir == Path.cwd()
    assert info.started_at is not None
    assert info.usage is not None
    assert info.usage.wall == info.duration > 0
    assert info.usage.user > 0
    assert info.usage.peak_memory > 50 << 20
    assert process.info().duration == info.duration


def test_the_list_and_its_end(service: Service) -> None:
    first = service.start("sleep", "60")
    second = service.start("true")
    second.wait(30)
    assert [process.id for process in service.list()] == ["proc-1", "proc-2"]
    assert service.running() == [first]
    assert service.get("proc-2") is second
    assert service.output("proc-2") == ""
    with pytest.raises(WrongStateError, match="still runs"):
        service.remove("proc-1")
    service.clear()
    assert service.list() == [first]
    service.kill("proc-1")
    assert first.status is Status.KILLED
    service.remove("proc-1")
    with pytest.raises(ProcessNotFoundError, match="proc-1"):
        service.get("proc-1")


def test_the_signal_that_was_asked_for_is_sent(service: Service) -> None:
    script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.01; done"
    process = service.start("sh", "-c", script)
    process.wait_ready(LogPattern("ready"))
    process.signal(signal.SIGUSR1)
    assert process.wait(30) == 5
    assert process.status is Status.EXITED
    assert "got it" in process.output()
    with pytest.raises(WrongStateError, match="exited"):
        process.signal(signal.SIGUSR1)


def test_who_is_ended_by_a_signal_is_killed(service: Service) -> None:
    process = service.start("sh", "-c", "kill -USR1 $$")
    assert process.wait(30) == -signal.SIGUSR1
    assert process.status is Status.KILLED


def test_stop_asks_first(service: Service) -> None:
    polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    process = service.start("sh", "-c", polite)
    process.wait_ready(LogPattern("ready"))
    process.stop(60)
    assert process.output().endswith("bye\n")
    assert (process.status, process.exit_code) == (Status.KILLED, 0)


def test_stop_does_not_ask_for_ever(service: Service) -> None:
    process = service.start("sh", "-c", STUBBORN)
    process.wait_ready(LogPattern("ready"))
    process.stop(0.05)
    assert process.exit_code == -signal.SIGKILL
    process.stop()
    process.kill()


def test_wait_has_an_end_but_the_process_does_not(service: Service) -> None:
    process = service.start("sleep", "60")
    with pytest.raises(TimeoutExpiredError, match="sleep"):
        process.wait(0.01)
    assert process.is_running()


def test_a_timeout_ends_a_program_even_if_a_grandchild_holds_its_pipe(service: Service) -> None:
    options = RunOptions("sh", ["-c", "echo before; (setsid sleep 600 &) ; sleep 600"], timeout=0.3)
    with pytest.raises(RunTimeoutError, match=r"0\.3 s") as caught:
        service.run_with_options(options)
    assert caught.value.output == b"before\n"
    assert service.leftovers() == []


def test_a_program_is_over_even_if_a_grandchild_holds_its_pipe(service: Service) -> None:
    assert service.run("sh", "-c", "sleep 600 & echo done") == "done\n"
    [left] = service.leftovers()
    assert left.command == "sleep 600"


def test_a_service_that_is_shut_down_starts_nothing(service: Service) -> None:
    process = service.start("sleep", "60")
    service.shutdown()
    assert process.status is Status.KILLED
    with pytest.raises(WrongStateError, match="shut down"):
        service.start("true")
    service.shutdown()


def test_one_cannot_start_with_two_at_once_what_ends_with_both(service: Service) -> None:
    processes = [service.start("sh", "-c", STUBBORN) for _ in range(5)]
    for process in processes:
        process.wait_ready(LogPattern("ready"))
    threads = [threading.Thread(target=process.kill) for process in processes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.running() == []


def test_detached_programs_outlive_the_service(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(tmp_path / "go")
    with Service() as service:
        script = "read line < go; echo alive"
        options = RunOptions("sh", ["-c", script], dir=tmp_path, detach=True, log=log)
        process = service.start_with_options(options)
        service.leftovers()
        pid = process.pid
        assert pid is not None
        service.shutdown()
        assert process.is_running()
        (tmp_path / "go").write_text("go\n")
        assert process.wait(30) == 0
    assert log.read_text() == "alive\n"


def test_streams_can_be_distinguished(service: Service) -> None:
    script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
    process = service.start("sh", "-c", script)
    process.wait(30)
    assert process.output(Stream.STDOUT) == "out1\nout2\nout3\n"
    assert process.output(Stream.STDERR) == "err1\nerr2\nerr3\n"


@pytest.mark.parametrize("timeout", [3e6, 1e300, math.inf])
def test_a_timeout_may_be_beyond_all_time(service: Service, timeout: float) -> None:
    options = RunOptions("echo", ["right"], timeout=timeout, grace_period=timeout)
    assert service.run_with_options(options) == "right\n"
    process = service.start_with_options(options)
    assert process.wait(30) == 0
    late = service.start_with_options(RunOptions("sleep", ["600"], timeout=0.01))
    assert late.wait(30) == -signal.SIGTERM  # the timer still runs


def test_a_timeout_waits_for_descriptors() -> None:
    assert output_of("without_descriptors") == "-15 []\n"


def test_a_finalizer_at_the_end_of_python_is_refused() -> None:
    assert output_of("finalizer") == "WrongStateError Python is ending\n"


def test_what_a_run_left_behind_can_go_on_writing(service: Service, tmp_path: Path) -> None:
    done = tmp_path / "done"
    daemon = f"(head -c 1000000 /dev/zero; touch {done}) &"  # more than a pipe holds
    service.run("sh", "-c", daemon)
    while not done.exists():
        os.sched_yield()


def test_runs_on_many_threads_do_not_disturb_each_other(service: Service) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        wrong.extend(
            output
            for turn in range(25)
            if (output := service.run("echo", f"{number} {turn}")) != f"{number} {turn}\n"
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_run_reports_that_the_reaper_was_killed(service: Service) -> None:
    service.run("true")
    script = f"import os, signal; os.kill({reaper().pid}, signal.SIGKILL); signal.pause()"
    with pytest.raises(RunFailedError) as caught:
        service.run(PYTHON, "-c", script)
    assert caught.value.exit_code == -signal.SIGKILL
    assert service.run("echo", "again") == "again\n"
