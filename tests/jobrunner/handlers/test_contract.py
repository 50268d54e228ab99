"""The contract of handlers, for those of the library and for broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core_infra.jobrunner import CommandHandler, Dispatch
from core_infra.medium import MemoryMedium
from core_infra.testing import HandlerContract
from jobs.actors import Actor
from jobs.samples import signal

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.jobrunner import Job, JobHandler, PipelineSignal


class TestDispatch(HandlerContract):
    def make_handler(self) -> JobHandler:
        self.medium = MemoryMedium()
        return Dispatch(self.medium, "queue")

    def wanted(self) -> PipelineSignal:
        return signal(needs_coding=True, assignee="ann")

    def unwanted(self) -> PipelineSignal:
        return signal()

    def performed(self) -> int:
        return len(self.medium.list("queue/ann")) if self.medium.exists("queue") else 0


class TestCommand(HandlerContract):
    @pytest.fixture(autouse=True)
    def where(self, tmp_path: Path) -> None:
        self.out = tmp_path / "out"

    def make_handler(self) -> JobHandler:
        command = ["sh", "-c", f"echo done >> {self.out}"]
        return CommandHandler("greet", command, when={"pr_state": "OPEN"})

    def wanted(self) -> PipelineSignal:
        return signal()

    def unwanted(self) -> PipelineSignal:
        return signal(pr_state="CLOSED", pr_number=6)

    def performed(self) -> int:
        return self.out.read_text().count("done") if self.out.exists() else 0


class Repeats(Actor):
    """Claims that nothing has happened, and does it again."""

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        del signal, job
        return False


class Forgets(Actor):
    """Decides differently the second time."""

    asked = False

    def match(self, signal: PipelineSignal) -> bool:
        self.asked = not self.asked
        return super().match(signal) and self.asked


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Repeats, "test_a_crash_after_the_action_repeats_nothing"),
        (Forgets, "test_it_decides_by_the_signal_and_in_the_same_way_each_time"),
    ],
)
def test_a_broken_handler_fails(kind: Any, name: str) -> None:
    class Contract(HandlerContract):
        def make_handler(self) -> JobHandler:
            self.actor = kind()
            made: JobHandler = self.actor
            return made

        def wanted(self) -> PipelineSignal:
            return signal()

        def unwanted(self) -> PipelineSignal:
            return signal(pr_state="CLOSED")

        def performed(self) -> int:
            return len(self.actor.done)

    with pytest.raises(AssertionError):
        getattr(Contract(), name)()
