"""Handlers as tests need them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.jobrunner import ActionResult, Job, PipelineSignal


class Actor:
    """Acts on open pull requests, once for each commit; remembers what it did."""

    def __init__(
        self,
        name: str = "act",
        *,
        do: Callable[[PipelineSignal, Job], Any] = lambda *_: None,
        wants: Callable[[PipelineSignal], bool] = lambda seen: seen.pr_state == "OPEN",
    ) -> None:
        self.name = name
        self.do = do
        self.wants = wants
        self.done: list[Job] = []

    def match(self, signal: PipelineSignal) -> bool:
        return self.wants(signal) and bool(signal.last_commit_sha)

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        self.done.append(job)
        answer = self.do(signal, job)
        return job.failed(answer) if isinstance(answer, str) else job.done()

    @property
    def commits(self) -> list[str]:
        return [job.signal.last_commit_sha for job in self.done]


class Teller(Actor):
    """An actor that can find out whether an action was done."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answer: bool | Exception = False
        self.asked: list[Job] = []

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        del signal
        self.asked.append(job)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Planner(Actor):
    """An actor that can rehearse."""

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        return [f"greet {signal.last_commit_sha} as {job.action}"]


class Gate:
    """Blocks its callers until it is opened, and counts them."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, *_: object) -> None:
        self.came.release()
        assert self.opened.wait(30)

    def wait(self) -> None:
        assert self.came.acquire(timeout=30)


class Elsewhere:
    """Says in which process it does not run."""

    name = "elsewhere"

    def match(self, signal: PipelineSignal) -> bool:
        return signal.pr_state == "OPEN"

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        del signal
        return job.failed(f"not in {os.getppid()}")
