"""The parts and limits of a poller."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from core_infra.jobrunner._clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from concurrent.futures import Executor

    from core_infra.framework._bus import Bus
    from core_infra.jobrunner._interfaces import JobHandler, JobSource
    from core_infra.jobrunner._journal.journal import Journal


@dataclasses.dataclass(frozen=True)
class PollerConfig:
    """The parts and limits of a poller.

    Attributes:
        sources: where signals come from.
        handlers: what is done about them; the first that matches a signal acts on it.
        journal: where everything is recorded.
        poll_interval: seconds between the end of a cycle and the next one; each pause is up to a
            tenth longer, at random.
        dry_run: only list what would be done.
        dry_run_handlers: the names of those *handlers* that only list what they would do, whatever
            *dry_run* is.
        executor: where handlers run; None is threads of this process.
        workers: how many handlers run at once.
        poll_timeout: seconds that a source may take to answer.
        job_timeout: seconds that an action may take. An action that takes longer is not ended
            (threads cannot be) but abandoned: nothing else touches its item before it has ended.
        grace_period: seconds that running actions have to end when the poller is stopped.
        attempts: how often an action that fails is tried, if its handler can find out whether it
            was done. The pause between attempts doubles each time, up to an hour.
        journal_bodies: whether the journal has the texts of issues; a replay of handlers that match
            on them needs it.
        clock: the source of time.
        bus: receives the events ``ActionSourcePolled``, ``ActionJobStarted``, ``ActionJobEnded``
            and ``ActionCycleEnded``.
    """

    sources: Sequence[JobSource]
    handlers: Sequence[JobHandler]
    journal: Journal
    poll_interval: float = 60.0
    dry_run: bool = False
    dry_run_handlers: Collection[str] = ()
    executor: Executor | None = None
    workers: int = 16
    poll_timeout: float = 60.0
    job_timeout: float = 600.0
    grace_period: float = 30.0
    attempts: int = 10
    journal_bodies: bool = False
    clock: Clock = dataclasses.field(default_factory=SystemClock)
    bus: Bus | None = None
