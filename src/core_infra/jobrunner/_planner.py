"""Finds the actions that are due: for the signals of a source, and after a crash."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from core_infra.jobrunner._handler_calls import HandlerCall, act, look_up, rehearse
from core_infra.jobrunner._journal.index import ActionStatus
from core_infra.jobrunner._logging import describe_error, job_fields
from core_infra.jobrunner._matching import (
    Limits,
    due_jobs,
    interrupted_job,
    is_over,
    matches,
    retry_delay,
    touched_items,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._cycle_state import Cycle
    from core_infra.jobrunner._interfaces import Job, JobHandler, JobSource
    from core_infra.jobrunner._journal.index import Index
    from core_infra.jobrunner._matching import Match
    from core_infra.jobrunner._poller_config import PollerConfig
    from core_infra.jobrunner._signal import PipelineSignal

_LOG = logging.getLogger(__name__)
_PUT_OFF = 10_000
_PUT_OFF_MAX = timedelta(minutes=5)


class Planner:
    """Finds the actions that are due, by what the index has of earlier ones.

    Not thread-safe: only the poller's thread uses it.

    Args:
        config: the poller's.
        index: the states that were acted on.
    """

    def __init__(self, config: PollerConfig, index: Index) -> None:
        self._config = config
        self._index = index
        self._limits = Limits(config.poll_interval, config.attempts, config.job_timeout)
        self._withdrawn: dict[str, tuple[int, datetime]] = {}
        """How often actions found nothing to do, and when they are decided on again."""

    def plan(
        self, cycle: Cycle, source: JobSource, signals: Sequence[PipelineSignal]
    ) -> Iterator[HandlerCall]:
        """Find the actions that are due for the signals of a source.

        Raises:
            StorageError: the index cannot be read.
        """
        left = [(0, signals)]
        while left:
            first, some = left.pop(0)
            found = self._new_matches(cycle, source, some, first)
            states = self._index.states(found)
            for name, state in states.items():
                if state.status is ActionStatus.DONE:  # nearly all of them
                    continue
                match = found[name]
                is_last = is_over(state, match.handler, self._limits)
                if is_last and not getattr(match.handler, "chain", False):
                    left.append((first + match.after, [match.signal]))
            now = self._config.clock.now()
            for handler, job in due_jobs(found, states, self._limits, now=now, cycle=cycle.number):
                later = self._withdrawn.get(job.id)
                if later is None or now >= later[1]:
                    yield from self._call(cycle, source, handler, job)

    def interrupted(self, cycle: Cycle, unfinished: Collection[str]) -> Iterator[HandlerCall]:
        """Find the actions that an earlier process started and left without a result.

        Args:
            cycle: the current cycle.
            unfinished: the ids of actions of this process, which have no result for another reason.

        Raises:
            StorageError: the index cannot be read.
        """
        for state in self._index.pending():
            if state.id in unfinished:
                continue
            handler = cycle.handlers.get(state.action)
            if handler is None:
                _LOG.warning("action %s is open: there is no handler %s", state.id, state.action)
                continue
            try:
                job = interrupted_job(state, self._limits, cycle=cycle.number)
                items = touched_items(handler, job.signal)
            except Exception as broken:  # noqa: BLE001 - the others must still be looked up
                _LOG.error("action %s is open: %s", state.id, describe_error(broken))
                continue
            yield HandlerCall(look_up, handler, job, items, None)

    def put_off(self, job: Job) -> None:
        """Decide on an action that found nothing to do at the next poll, later each time."""
        times = self._withdrawn.get(job.id, (0, None))[0] + 1
        wait = retry_delay(self._config.poll_interval, times - 1) if times > 1 else timedelta(0)
        until = self._config.clock.now() + min(wait, _PUT_OFF_MAX)
        self._withdrawn[job.id] = (times, until)
        while len(self._withdrawn) > _PUT_OFF:
            self._withdrawn.pop(next(iter(self._withdrawn)))

    def put_off_nothing(self) -> None:
        """Decide on everything at the next poll."""
        self._withdrawn.clear()

    def _new_matches(
        self, cycle: Cycle, source: JobSource, signals: Sequence[PipelineSignal], first: int
    ) -> dict[str, Match]:
        """What the handlers from a place on match, and was not planned in this cycle yet; by id."""
        found: dict[str, Match] = {}
        for match in matches(signals, cycle.handlers_of(source.name)[first:]):
            if match.id not in cycle.seen:
                found.setdefault(match.id, match)
        cycle.seen |= found.keys()
        return found

    def _call(
        self, cycle: Cycle, source: JobSource, handler: JobHandler, job: Job
    ) -> Iterator[HandlerCall]:
        is_dry = cycle.dry_run or handler.name in self._config.dry_run_handlers
        try:
            items = touched_items(handler, job.signal)
        except Exception as error:  # noqa: BLE001 - one handler must not stop the others
            _LOG.error(
                "handler %s cannot say what %s touches: %s",
                *(handler.name, job.signal.item, describe_error(error)),
                extra=job_fields(job),
            )
        else:
            yield HandlerCall(rehearse if is_dry else act, handler, job, items, source)
