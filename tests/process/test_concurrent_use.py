"""A service under starts, ends and signals from several threads, against a model."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from core_infra.errors import WrongStateError
from core_infra.framework import Core
from core_infra.process import (
    ActionProcessExited,
    ActionProcessOutput,
    ActionProcessStarted,
    ProcessNotFoundError,
    RunOptions,
    Service,
    Status,
)
from core_infra.process._status import ENDED
from support import is_running

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process import Process

SCRIPTS = {
    "ends": "echo one; exit 3",
    "waits": "echo one; read line; echo $line",
    "stubborn": "trap '' TERM; echo one; while :; do sleep 60; done",
    "leaves": "echo one; setsid sleep 60 & exit 3",
}


class ServiceUnderFire(RuleBasedStateMachine):
    """Every call may come from several threads at once; each gives what the model allows."""

    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.told: list[object] = []
        self.core.register_action(self.told.append)
        self.service = Service(self.core)
        self.pool = ThreadPoolExecutor(4)
        self.started = 0
        self.open = True

    def at_once(self, *jobs: Callable[[], object]) -> list[object]:
        """Do these jobs at the same time; their results, errors included."""
        together = threading.Barrier(len(jobs))

        def run(job: Callable[[], object]) -> object:
            together.wait()
            try:
                return job()
            except (WrongStateError, ProcessNotFoundError) as error:
                return error

        return list(self.pool.map(run, jobs))

    @rule(target=processes, script=st.sampled_from(sorted(SCRIPTS)))
    def start(self, script: str) -> Process | None:
        options = RunOptions("sh", ["-c", SCRIPTS[script]], grace_period=0.02)
        try:
            process = self.service.start_with_options(options)
        except WrongStateError:
            assert not self.open
            return None
        assert self.open
        self.started += 1
        assert process.id == f"proc-{self.started}"
        return process

    @rule(target=processes, count=st.integers(2, 4))
    def start_at_once(self, count: int) -> Process | None:
        options = RunOptions("sh", ["-c", SCRIPTS["waits"]], grace_period=0.02)
        results = self.at_once(*[lambda: self.service.start_with_options(options)] * count)
        if not self.open:
            assert all(isinstance(result, WrongStateError) for result in results)
            return None
        self.started += count
        assert len({result.id for result in results}) == count  # type: ignore[attr-defined]
        return results[0]  # type: ignore[return-value]

    @rule(one=processes, other=processes, how=st.sampled_from(["kill", "stop", "both"]))
    def end(self, one: Process | None, other: Process | None, how: str) -> None:
        both = [process for process in (one, other) if process is not None]
        calls = {"kill": ["kill"], "stop": ["stop"], "both": ["kill", "stop"]}[how]
        jobs = [getattr(process, call) for process in both for call in calls]
        if jobs:
            self.at_once(*jobs)
        for process in both:
            assert process.status in {Status.KILLED, Status.EXITED}
            assert process.done.is_set()
            assert process.leftovers() == []

    @rule(
        process=processes,
        number=st.sampled_from([signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT, signal.SIGINT]),
    )
    def send(self, process: Process | None, number: int) -> None:
        if process is not None:
            [result] = self.at_once(lambda: process.signal(number))
            assert result is None or process.status in ENDED

    @rule(process=processes)
    def feed(self, process: Process | None) -> None:
        if process is not None:
            self.at_once(lambda: process.send_input("two\n"), process.close_stdin)

    @rule(process=processes)
    def remove(self, process: Process | None) -> None:
        if process is not None:
            [result] = self.at_once(lambda: self.service.remove(process.id))
            if result is None:
                assert process.status in ENDED
                assert process not in self.service.list()

    @rule()
    def clear_and_look(self) -> None:
        self.at_once(self.service.clear, self.service.list, self.service.running)

    @rule()
    def shut_down(self) -> None:
        self.open = False
        self.at_once(self.service.shutdown, self.service.shutdown)
        assert self.service.running() == []
        assert self.service.leftovers() == []

    @invariant()
    def what_is_known_agrees(self) -> None:
        for process in self.service.list():
            info = process.info()
            assert (info.exit_code is None) == (info.status not in ENDED)
            assert info.pid is not None
            if info.status in ENDED:
                assert not is_running(info.pid)

    def teardown(self) -> None:
        self.service.shutdown()
        self.pool.shutdown()
        orders: dict[str, list[type]] = {}
        for event in self.told:
            orders.setdefault(event.id, []).append(type(event))  # type: ignore[attr-defined]
        assert len(orders) == self.started
        for order in orders.values():
            assert order[0] is ActionProcessStarted
            assert order[-1] is ActionProcessExited
            assert order.count(ActionProcessExited) == 1
            assert order.count(ActionProcessOutput) <= 2


TestService = ServiceUnderFire.TestCase
TestService.settings = settings(max_examples=25, stateful_step_count=15)
