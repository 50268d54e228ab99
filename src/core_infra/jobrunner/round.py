"""What belongs to one cycle only."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

from core_infra.jobrunner.config import CycleReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.jobrunner.ports import JobHandler
    from core_infra.jobrunner.work import Task

FOREVER = float("inf")


@dataclasses.dataclass
class Round:
    """A cycle that is under way.

    Attributes:
        cycle: its number.
        handlers: those that are asked in it, by their names.
        dry_run: whether it only tells what it would do.
        report: what happened.
        errors: what could not be written down.
        planned: actions whose intents are still to be written.
        seen: the ids of all actions that were planned.
        grace: until when running actions are waited for, once the poller is stopped.
    """

    cycle: int
    handlers: Mapping[str, JobHandler]
    dry_run: bool
    report: CycleReport = dataclasses.field(init=False)
    errors: list[BaseException] = dataclasses.field(default_factory=list)
    planned: deque[Task] = dataclasses.field(default_factory=deque)
    seen: set[str] = dataclasses.field(default_factory=set)
    grace: float = FOREVER

    def __post_init__(self) -> None:
        self.report = CycleReport(self.cycle)
