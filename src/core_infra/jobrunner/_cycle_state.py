"""The state of one cycle, and its report."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._fair_queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.jobrunner._interfaces import Job, JobHandler
    from core_infra.jobrunner._signal import ActionResult

_FOREVER = float("inf")


class Rehearsal(NamedTuple):
    """What an action would do.

    Attributes:
        job: the action.
        steps: each step that would change something.
        error: why the steps cannot be listed; empty if they can.
    """

    job: Job
    steps: Sequence[str]
    error: str


@dataclasses.dataclass
class CycleReport:
    """What happened in one cycle.

    Attributes:
        cycle: the number of the cycle.
        signals: how many signals the sources gave.
        results: the results of actions, all of them on the disk.
        rehearsals: what would have been done, in a dry run.
        failures: for each source that gave nothing, why.
    """

    cycle: int
    signals: int = 0
    results: list[ActionResult] = dataclasses.field(default_factory=list)
    rehearsals: list[Rehearsal] = dataclasses.field(default_factory=list)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Cycle:
    """The state of one cycle.

    Attributes:
        number: its number.
        handlers: its handlers, by name.
        dry_run: whether actions are only rehearsed.
        report: what happened.
        errors: what could not be written down.
        planned: actions whose intents are still to be written.
        seen: the ids of all actions that were planned.
        grace_deadline: how long running actions are waited for once the poller is stopped, by the
            monotonic clock.
        patience: how many seconds the cycle waits for its actions once all sources have answered;
            those that still run then continue beside the next cycle.
    """

    number: int
    handlers: Mapping[str, JobHandler]
    dry_run: bool
    report: CycleReport = dataclasses.field(init=False)
    errors: list[BaseException] = dataclasses.field(default_factory=list)
    planned: FairQueue = dataclasses.field(default_factory=FairQueue)
    seen: set[str] = dataclasses.field(default_factory=set)
    grace_deadline: float = _FOREVER
    patience: float = _FOREVER

    def __post_init__(self) -> None:
        self.report = CycleReport(self.number)
        self._by_source: dict[str, Sequence[JobHandler]] = {}

    def handlers_of(self, source: str) -> Sequence[JobHandler]:
        """The handlers that may act on the signals of a source, in their order."""
        if source not in self._by_source:
            self._by_source[source] = [
                handler
                for handler in self.handlers.values()
                if (bound := getattr(handler, "sources", None)) is None or source in bound
            ]
        return self._by_source[source]
