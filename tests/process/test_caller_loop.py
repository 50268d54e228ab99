"""Who waits attends to the program himself; whatever happens to him, nothing of it is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from process_programs import PYTHON

from core_infra._eventloop.caller_loop import CallerLoop
from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import supervisor
from core_infra.process import RunFailedError, RunOptions
from core_infra.process._reaper.registry import reaper

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.process import Service


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


def test_an_environment_may_be_larger_than_a_packet(service: Service) -> None:
    # A variable may have 128 KiB, and all together more.
    env = {f"LARGE_{number}": str(number) * 100_000 for number in range(5)}
    script = "import os; print(sum(len(v) for n, v in os.environ.items() if n[:6] == 'LARGE_'))"
    options = RunOptions(PYTHON, ["-c", script], env=env)
    assert service.run_with_options(options) == "500000\n"


def test_a_killed_reaper_is_told_to_who_runs(service: Service) -> None:
    service.run("true")
    script = f"import os, signal; os.kill({reaper().pid}, signal.SIGKILL); signal.pause()"
    with pytest.raises(RunFailedError) as caught:
        service.run(sys.executable, "-c", script)
    assert caught.value.exit_code == -signal.SIGKILL
    assert service.run("echo", "again") == "again\n"


def test_the_supervisor_takes_over_what_is_left() -> None:
    heard = threading.Event()
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def hear(_events: int) -> None:
        assert supervisor().is_current()
        os.read(ours, 1)
        heard.set()

    with CallerLoop() as loop:
        loop.watch(ours, 1, hear)
        assert loop.is_current()
    assert not loop.is_current()
    os.write(theirs, b"x")
    assert heard.wait(30)
    later = threading.Event()
    loop.post(later.set)
    assert later.wait(30)
    loop.unwatch(ours)
    os.close(ours)
    os.close(theirs)


def test_a_loop_that_waits_is_woken() -> None:
    event = Latch()
    with CallerLoop() as loop:

        def post() -> None:
            loop.post(event.set)

        thread = threading.Thread(target=post)
        thread.start()
        assert loop.wait(event, 30)
        thread.join()
        assert not loop.wait(Latch(), 0.001)
