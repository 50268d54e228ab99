"""Tasks with dependencies: run as soon as they may, watched, and reported."""

from core_infra.process._runner.cancellation import Cancellation
from core_infra.process._runner.durations import Durations
from core_infra.process._runner.events import (
    Event,
    RunFinished,
    RunStarted,
    SpecFinished,
    SpecStarted,
    SpecWrote,
)
from core_infra.process._runner.freshness import Freshness
from core_infra.process._runner.graph import InvalidGraphError
from core_infra.process._runner.results import (
    RunAllResult,
    RunInterruptedError,
    RunResult,
    RunTimeoutError,
)
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.schedule import Plan, Step
from core_infra.process._runner.spec import RunSpec

__all__ = [
    "Cancellation",
    "Durations",
    "Event",
    "Freshness",
    "InvalidGraphError",
    "Plan",
    "RunAllResult",
    "RunFinished",
    "RunInterruptedError",
    "RunResult",
    "RunSpec",
    "RunStarted",
    "RunTimeoutError",
    "Runner",
    "SpecFinished",
    "SpecStarted",
    "SpecWrote",
    "Step",
]
