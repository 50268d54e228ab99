"""What an outcome means: what is written to the journal, and what is published after that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from core_infra.jobrunner._cycle_state import Rehearsal
from core_infra.jobrunner._events import ActionJobEnded, publish
from core_infra.jobrunner._handler_calls import Outcome, act, look_up, rehearse
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._logging import describe_error, job_fields
from core_infra.jobrunner._threads import NotStartedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.framework._bus import Bus
    from core_infra.jobrunner._cycle_state import Cycle
    from core_infra.jobrunner._handler_calls import HandlerCall
    from core_infra.jobrunner._interfaces import Job, JobSource
    from core_infra.jobrunner._result_writer import Record, ResultWriter
    from core_infra.jobrunner._signal import ActionResult

_LOG = logging.getLogger(__name__)


class Outcomes:
    """Has outcomes written down, and publishes the results that are on the disk.

    Not thread-safe: only the poller's thread uses it.

    Args:
        writer: writes them, while the next actions run.
        bus: receives the event of each result.
    """

    def __init__(self, writer: ResultWriter, bus: Bus | None) -> None:
        self._writer = writer
        self._bus = bus

    def record(self, cycle: Cycle, call: HandlerCall, outcome: Outcome | BaseException) -> bool:
        """Record how a call ended.

        Returns:
            Whether it found nothing to do, so that its action is decided on again.
        """
        if call.function is rehearse:
            self._rehearsed(cycle, call.job, outcome)
        elif call.function is look_up:
            self._looked_up(call, outcome)
        elif isinstance(outcome, NotStartedError):
            error = describe_error(outcome)
            _LOG.error("%s is not started: %s", call.job.action, error, extra=job_fields(call.job))
            self._add(call, Phase.WITHDRAWN, error)
        elif isinstance(outcome, BaseException):  # the executor failed, not the handler
            self._add(call, Phase.UNKNOWN, describe_error(outcome))
        else:
            self._writer.add(call, Phase(outcome.end or Phase.RESULT), outcome)
            if outcome.end == "withdrawn":
                why = (call.job.action, outcome.error)
                _LOG.info("%s is withdrawn: %s", *why, extra=job_fields(call.job))
                return True
        return False

    def withdraw(self, calls: Iterable[HandlerCall]) -> None:
        """Record that actions with an intent will not be started."""
        for call in calls:
            if call.function is act:
                self._add(call, Phase.WITHDRAWN, "not started")

    def cannot_look_up(self, call: HandlerCall) -> None:
        """Record that nobody can find out whether an action was done."""
        error = "interrupted, and the handler cannot check whether it was done"
        self._add(call, Phase.UNKNOWN, error)

    def overdue(self, cycle: Cycle, calls: Iterable[HandlerCall], timeout: float) -> None:
        """Record calls that have not ended within the timeout, in seconds, and may still run."""
        for call in calls:
            if call.function is act:
                error = f"it has not ended within {timeout:g} s, and may still run"
                self._add(call, Phase.UNKNOWN, error, timeout)
            elif call.function is rehearse:
                late = Outcome(success=False, error="it takes too long")
                self._rehearsed(cycle, call.job, late)

    def publish_written(self, cycle: Cycle) -> Iterator[tuple[JobSource, list[ActionResult]]]:
        """Publish the results that are on the disk; return them by their signals' sources."""
        while self._writer.written:
            records, error = self._writer.written.popleft()
            if error is None:
                yield from self._published(cycle, records)
            else:
                why = describe_error(error)
                _LOG.error("%d results could not be written: %s", len(records), why)
                cycle.errors.append(error)

    def _published(
        self, cycle: Cycle, records: Sequence[Record]
    ) -> Iterable[tuple[JobSource, list[ActionResult]]]:
        by_source: dict[str, tuple[JobSource, list[ActionResult]]] = {}
        for call, _, result in records:
            if result is None:
                continue
            cycle.report.results.append(result)
            publish(self._bus, ActionJobEnded(call.job, result))
            level = logging.INFO if result.success else logging.ERROR
            if _LOG.isEnabledFor(level):
                outcome = "done" if result.success else f"failed: {result.error}"
                _LOG.log(level, "%s: %s", call.job.action, outcome, extra=job_fields(call.job))
            if call.source is not None:
                results = by_source.setdefault(call.source.name, (call.source, []))[1]
                results.append(result)
        return by_source.values()

    def _looked_up(self, call: HandlerCall, outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, BaseException):
            why = describe_error(outcome)
            _LOG.error("cannot look up action %s now: %s", call.job.id, why)
        else:
            phase = Phase.RESULT if outcome.success else Phase.INTERRUPTED
            self._writer.add(call, phase, outcome)

    def _rehearsed(self, cycle: Cycle, job: Job, outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, BaseException):
            outcome = Outcome(success=False, error=describe_error(outcome))
        cycle.report.rehearsals.append(Rehearsal(job, outcome.steps, outcome.error))
        for step in outcome.steps or [outcome.error]:
            _LOG.info("dry run: %s would: %s", job.action, step, extra=job_fields(job))

    def _add(self, call: HandlerCall, phase: Phase, error: str, duration: float = 0.0) -> None:
        self._writer.add(call, phase, Outcome(success=False, error=error, duration=duration))
