"""A bot's handler, stepped by hand, and crashed at the worst moment. No forge, no machine."""

from core_infra.jobrunner import ActionResult, Job, PipelineSignal
from pytest_core_infra.plugin import Stepper


class Greet:
    """Greets each pull request once."""

    name = "greet"

    def __init__(self) -> None:
        self.posted: list[str] = []

    def match(self, signal: PipelineSignal) -> bool:
        return signal.pr_state == "OPEN"

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        self.posted.append(f"Welcome, #{signal.pr_number}! {job.marker}")
        return job.done()

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Look whether an action that was cut short has taken place."""
        return any(job.marker in text for text in self.posted if f"#{signal.pr_number}" in text)


def test_a_crash_repeats_nothing(core_poller: Stepper) -> None:
    handler = Greet()
    core_poller.add_handler(handler)
    core_poller.signals = [
        PipelineSignal(repo_owner="acme", repo_name="widgets", pr_number=5, pr_state="OPEN")
    ]
    core_poller.step()
    core_poller.crash()  # between the action and its result
    core_poller.step()
    assert len(handler.posted) == 1
