"""One cycle, from top to bottom: poll, plan, act, record, report.

Everything here runs on the poller's thread. Sources, handlers and the disk are waited for on other
threads. What those have done arrives in the inbox, as functions that this thread calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.jobrunner._action_pool import ActionPool, submit_to_executor, submit_to_threads
from core_infra.jobrunner._config import CycleReport, Rehearsal
from core_infra.jobrunner._events import ActionJobEnded, ActionJobStarted, ActionSourcePolled
from core_infra.jobrunner._handler_calls import HandlerCall, Outcome, act, look_up, rehearse
from core_infra.jobrunner._interfaces import as_reconciling
from core_infra.jobrunner._journal.amendments import mark_of
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._journal.index import ActionStatus, Index
from core_infra.jobrunner._leadership import Leadership
from core_infra.jobrunner._logging import describe_error, job_fields
from core_infra.jobrunner._plan import (
    Limits,
    due_jobs,
    interrupted_job,
    is_over,
    matches,
    retry_delay,
    touched_items,
)
from core_infra.jobrunner._result_writer import ResultWriter
from core_infra.jobrunner._source_polling import SourcePolling
from core_infra.jobrunner._threads import DaemonThreads, NotStartedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._config import PollerConfig
    from core_infra.jobrunner._interfaces import Job, JobHandler, JobSource
    from core_infra.jobrunner._plan import Match
    from core_infra.jobrunner._result_writer import Record
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal

_LOG = logging.getLogger(__name__)
_FOREVER = float("inf")
_PUT_OFF = 10_000
_PUT_OFF_MAX = timedelta(minutes=5)
_BATCH = 512
"""How many intents share one write. After a crash, as many may have to be looked up."""


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
    planned: deque[HandlerCall] = dataclasses.field(default_factory=deque)
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


class CycleRunner:
    """Runs cycles, one at a time.

    Args:
        config: the poller's.
        stop: set when no more actions may be started.
        nudge: set when a source is to be polled before the cycle's actions have ended.

    Attributes:
        turned: when it last had something to do, by the monotonic clock.
    """

    def __init__(self, config: PollerConfig, stop: threading.Event, nudge: threading.Event) -> None:
        self._config = config
        self._nudge = nudge
        self.turned = time.monotonic()
        self._stop = stop
        self._limits = Limits(config.poll_interval, config.attempts, config.job_timeout)
        self._inbox: Inbox = queue.SimpleQueue()
        self._threads = DaemonThreads("core-infra-job")
        self._leadership = Leadership(config.journal)
        self._index = Index(config.journal)
        self._caught_up = False
        self._mark = 0
        self._pool = ActionPool(
            submit_to_threads(self._threads)
            if config.executor is None
            else submit_to_executor(config.executor),
            size=config.workers,
            timeout=config.job_timeout,
            inbox=self._inbox,
            keep_alive=self._leadership,  # its lock is held as long as an action runs
        )
        self._polling = SourcePolling(
            timeout=config.poll_timeout,
            interval=config.poll_interval,
            clock=config.clock,
            inbox=self._inbox,
        )
        self._writer = ResultWriter(config, self._index, self._inbox)
        self._cycle = Cycle(0, {}, dry_run=True)
        self._withdrawn: dict[str, tuple[int, datetime]] = {}
        """How often actions found nothing to do, and when they are decided on again."""

    def catch_up(self, *, dry_run: bool) -> None:
        """Take the lead (not for a dry run), and read what other pollers added to the journal.

        Raises:
            NotLeaderError: another poller acts on this journal.
            StorageError: the journal or its index cannot be read or written.
        """
        if not dry_run and self._leadership.acquire():
            self._caught_up = False
        mark = mark_of(self._config.journal.base_dir)
        if self._config.journal.pull():
            self._caught_up = False
        if dry_run or not self._caught_up or mark != self._mark:
            self._index.catch_up()
            self._withdrawn.clear()
            self._caught_up, self._mark = True, mark

    def run(self, cycle: Cycle, sources: Iterable[JobSource]) -> None:
        """Run one cycle. If this raises, the runner can only be closed."""
        self._cycle = cycle
        cycle.seen = {call.job.id for call in self._pool.active}
        self._take_arrived()  # a late answer makes it the turn of its source
        if not cycle.dry_run:
            with self._errors_deferred():
                self._look_up_interrupted()
            self._work()
        if not self._stop.is_set():
            self._polling.start(sources)
        self._work()

    @property
    def is_busy(self) -> bool:
        """Actions of an earlier cycle still run, or their results are being written."""
        return not (self._pool.idle and self._writer.idle)

    @property
    def leads(self) -> bool:
        """Whether this is the poller that acts on the journal."""
        return self._leadership.is_held

    @property
    def hanging(self) -> list[str]:
        """The names of the sources that have not answered for many timeouts."""
        return self._polling.hanging

    def finish(self, cycle: Cycle) -> None:
        """Wait for the actions that earlier cycles left running, as long as the grace period."""
        self._cycle = cycle
        self._work()

    def wake(self) -> None:
        """Have the cycle check whether it should stop; from any thread."""
        self._inbox.put(lambda: None)

    def publish(self, event: object) -> None:
        """Send an event to the bus, if there is one."""
        if self._config.bus is not None:
            try:
                self._config.bus.action(event)
            except Exception as error:  # noqa: BLE001 - a listener must not stop the poller
                _LOG.error("%s", describe_error(error))

    def close(self) -> None:
        """Release everything; the lead only when no action runs, abandoned ones included."""
        self._pool.when_empty(self._leadership.release)
        for part in (self._polling, self._writer, self._index):
            part.close()
        self._threads.close()

    # The steps of a cycle, in their order. Each takes what the one before it has left.

    def _work(self) -> None:
        """Repeat all steps until there is nothing left to do or to wait for."""
        parts = (self._pool, self._polling, self._writer)
        until = _FOREVER
        while True:
            self._take_arrived()
            self._cancel_if_stopped()
            self._plan_actions()
            self._start_actions()
            self._record_outcomes()
            self._report_results()
            if not self._cycle.planned and all(part.idle for part in parts):
                return
            self.turned = time.monotonic()
            if self._polling.idle and self._nudge.is_set() and self._cycle.patience != _FOREVER:
                return
            if self._polling.idle and not self._stop.is_set():
                # Only actions are waited for: a slow one must not delay the polls of others.
                until = min(until, time.monotonic() + self._cycle.patience)
                if time.monotonic() >= until:
                    return
            self._wait(until)

    def _look_up_interrupted(self) -> None:
        """Step 0: look up actions that an earlier process started and left without a result."""
        running = {call.job.id for call in self._pool.active} | self._writer.unwritten
        for state in self._index.pending():
            if state.id in running:
                continue
            handler = self._cycle.handlers.get(state.action)
            if handler is None:
                _LOG.warning("action %s is open: there is no handler %s", state.id, state.action)
                continue
            try:
                job = interrupted_job(state, self._limits, cycle=self._cycle.number)
                items = touched_items(handler, job.signal)
            except Exception as broken:  # noqa: BLE001 - the others must still be looked up
                _LOG.error("action %s is open: %s", state.id, describe_error(broken))
                continue
            call = HandlerCall(look_up, handler, job, items, None)
            if as_reconciling(handler) is not None:
                self._pool.add([call])
            else:
                error = "interrupted, and the handler cannot check whether it was done"
                self._writer.add(call, Phase.UNKNOWN, Outcome(success=False, error=error))

    def _cancel_if_stopped(self) -> None:
        """Once the poller is stopped: start nothing more, and wait only for what runs."""
        if self._stop.is_set() and self._cycle.grace_deadline == _FOREVER:
            self._cycle.grace_deadline = time.monotonic() + self._config.grace_period
            self._cycle.planned.clear()
            self._withdraw(self._pool.clear_waiting())
            self._polling.abandon(_FOREVER)

    def _plan_actions(self) -> None:
        """Step 1: for each signal that a source gave, find the handler that acts on it."""
        while self._polling.answers:
            source, answer, duration = self._polling.answers.popleft()
            if isinstance(answer, BaseException):
                if self._stop.is_set() and isinstance(answer, TimeoutExpiredError):
                    continue  # its time was cut short
                error = self._cycle.report.failures[source.name] = describe_error(answer)
                fields = {"facts": {"source": source.name}}
                _LOG.error("source %s: %s", source.name, error, extra=fields)
                self.publish(ActionSourcePolled(source.name, 0, duration, error))
                continue
            self.publish(ActionSourcePolled(source.name, len(answer), duration))
            self._cycle.report.signals += len(answer)
            if not self._stop.is_set():
                with self._errors_deferred():
                    self._cycle.planned += self._plan(source, answer)

    def _plan(self, source: JobSource, signals: Sequence[PipelineSignal]) -> list[HandlerCall]:
        handlers = self._cycle.handlers_of(source.name)
        calls: list[HandlerCall] = []
        left = [(0, signals)]
        while left:
            place, some = left.pop(0)
            calls += self._plan_from(source, some, handlers[place:], place, left)
        return calls

    def _plan_from(
        self,
        source: JobSource,
        signals: Sequence[PipelineSignal],
        handlers: Sequence[JobHandler],
        place: int,
        left: list[tuple[int, Sequence[PipelineSignal]]],
    ) -> list[HandlerCall]:
        """Plan the actions of handlers; append what the handlers behind them may act on."""
        cycle = self._cycle
        found: dict[str, Match] = {}
        for match in matches(signals, handlers):
            if match.id not in cycle.seen:
                found.setdefault(match.id, match)
        cycle.seen |= found.keys()
        states = self._index.states(found)
        for name, state in states.items():
            if state.status is ActionStatus.DONE:  # nearly all of them
                continue
            match = found[name]
            is_last = is_over(state, match.handler, self._limits)
            if is_last and not getattr(match.handler, "chain", False):
                left.append((place + match.after, [match.signal]))
        now = self._config.clock.now()
        calls = []
        for handler, job in due_jobs(found, states, self._limits, now=now, cycle=cycle.number):
            if (later := self._withdrawn.get(job.id)) is not None and now < later[1]:
                continue
            is_dry = cycle.dry_run or handler.name in self._config.dry_run_handlers
            try:
                items = touched_items(handler, job.signal)
            except Exception as error:  # noqa: BLE001 - one handler must not stop the others
                _LOG.error(
                    "handler %s cannot say what %s touches: %s",
                    *(handler.name, job.signal.item, describe_error(error)),
                    extra=job_fields(job),
                )
                continue
            call = HandlerCall(rehearse if is_dry else act, handler, job, items, source)
            if not self._pool.is_blocked(call):
                calls.append(call)
        return calls

    def _start_actions(self) -> None:
        """Step 2: write the intents of planned actions to the disk, and start them."""
        planned = self._cycle.planned
        self._start_waiting()
        while planned and self._pool.wants_more:
            batch = [planned.popleft() for _ in range(min(_BATCH, len(planned)))]
            self._pool.add(self._with_intents(batch))
            self._start_waiting()

    def _with_intents(self, calls: list[HandlerCall]) -> list[HandlerCall]:
        """Write intents; return the calls that may start."""
        try:
            self._writer.write_intents([call.job for call in calls if call.function is act])
        except CoreInfraError as error:
            if len(calls) > 1:  # one of them must not stop the others
                return [call for one in calls for call in self._with_intents([one])]
            _LOG.error("action %s is not started: %s", calls[0].job.action, describe_error(error))
            self._cycle.errors.append(error)
            return []
        return calls

    def _start_waiting(self) -> None:
        started, rejected = self._pool.start()
        self._withdraw(rejected)
        if self._config.bus is not None:
            for call in started:
                if call.function is act:
                    self.publish(ActionJobStarted(call.job))

    def _record_outcomes(self) -> None:
        """Step 3: hand the outcomes of ended calls to the writer, which works meanwhile."""
        while self._pool.ended:
            call, outcome = self._pool.ended.popleft()
            if call.function is rehearse:
                self._add_rehearsal(call.job, outcome)
            elif call.function is look_up:
                if isinstance(outcome, BaseException):
                    why = describe_error(outcome)
                    _LOG.error("cannot look up action %s now: %s", call.job.id, why)
                else:
                    phase = Phase.RESULT if outcome.success else Phase.INTERRUPTED
                    self._writer.add(call, phase, outcome)
            elif isinstance(outcome, NotStartedError):
                error = describe_error(outcome)
                _LOG.error(
                    "%s is not started: %s", call.job.action, error, extra=job_fields(call.job)
                )
                self._writer.add(call, Phase.WITHDRAWN, Outcome(success=False, error=error))
            elif isinstance(outcome, BaseException):  # the executor failed, not the handler
                error = describe_error(outcome)
                self._writer.add(call, Phase.UNKNOWN, Outcome(success=False, error=error))
            else:
                if outcome.end == "withdrawn":
                    self._put_off(call.job)
                    _LOG.info(
                        "%s is withdrawn: %s",
                        *(call.job.action, outcome.error),
                        extra=job_fields(call.job),
                    )
                self._writer.add(call, Phase(outcome.end or Phase.RESULT), outcome)

    def _put_off(self, job: Job) -> None:
        """Decide on an action that found nothing to do at the next poll, later each time."""
        times = self._withdrawn.get(job.id, (0, None))[0] + 1
        wait = retry_delay(self._config.poll_interval, times - 1) if times > 1 else timedelta(0)
        until = self._config.clock.now() + min(wait, _PUT_OFF_MAX)
        self._withdrawn[job.id] = (times, until)
        while len(self._withdrawn) > _PUT_OFF:
            self._withdrawn.pop(next(iter(self._withdrawn)))

    def _add_rehearsal(self, job: Job, outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, BaseException):
            outcome = Outcome(success=False, error=describe_error(outcome))
        self._cycle.report.rehearsals.append(Rehearsal(job, outcome.steps, outcome.error))
        for step in outcome.steps or [outcome.error]:
            _LOG.info("dry run: %s would: %s", job.action, step, extra=job_fields(job))

    def _report_results(self) -> None:
        """Step 4: pass results that are on the disk to the report, the bus and the sources."""
        while self._writer.written:
            records, error = self._writer.written.popleft()
            if error is not None:
                why = describe_error(error)
                _LOG.error("%d results could not be written: %s", len(records), why)
                self._cycle.errors.append(error)
                continue
            for source, results in self._published(records):
                self._polling.report(source, results)

    def _published(
        self, records: Sequence[Record]
    ) -> Iterable[tuple[JobSource, list[ActionResult]]]:
        """Publish results; return them by the source that their signal came from."""
        by_source: dict[str, tuple[JobSource, list[ActionResult]]] = {}
        for call, _, result in records:
            if result is None:
                continue
            self._cycle.report.results.append(result)
            if self._config.bus is not None:
                self.publish(ActionJobEnded(call.job, result))
            level = logging.INFO if result.success else logging.ERROR
            if _LOG.isEnabledFor(level):
                outcome = "done" if result.success else f"failed: {result.error}"
                _LOG.log(level, "%s: %s", call.job.action, outcome, extra=job_fields(call.job))
            if call.source is not None:
                results = by_source.setdefault(call.source.name, (call.source, []))[1]
                results.append(result)
        return by_source.values()

    def _wait(self, until: float) -> None:
        """Wait until another thread has done something, or something is overdue, or a moment."""
        deadline = min(self._pool.deadline(), self._polling.deadline(), until)
        if not (self._pool.idle and self._polling.idle):  # the disk is waited for in any case
            deadline = min(deadline, self._cycle.grace_deadline)
        left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
        try:
            self._inbox.get(timeout=max(0.0, left))()
        except queue.Empty:
            self._abandon_overdue(time.monotonic())

    def _take_arrived(self) -> None:
        # All of it: each wait hands the interpreter to another thread.
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()()

    def _abandon_overdue(self, now: float) -> None:
        is_leaving = now >= self._cycle.grace_deadline
        limit = _FOREVER if is_leaving else now
        self._polling.abandon(limit)
        abandoned, rejected = self._pool.abandon(limit)
        self._withdraw(rejected)
        timeout = self._config.job_timeout
        for call in abandoned:
            if is_leaving:
                _LOG.warning("action %s still runs", call.job.id, extra=job_fields(call.job))
            elif call.function is act:
                error = f"it has not ended within {timeout:g} s, and may still run"
                outcome = Outcome(success=False, error=error, duration=timeout)
                self._writer.add(call, Phase.UNKNOWN, outcome)
            elif call.function is rehearse:
                self._add_rehearsal(call.job, Outcome(success=False, error="it takes too long"))

    def _withdraw(self, calls: Iterable[HandlerCall]) -> None:
        """Record that actions with an intent will not be started."""
        for call in calls:
            if call.function is act:
                outcome = Outcome(success=False, error="not started")
                self._writer.add(call, Phase.WITHDRAWN, outcome)

    @contextlib.contextmanager
    def _errors_deferred(self) -> Iterator[None]:
        """Continue after an error of the journal; the poller raises it at the cycle's end."""
        try:
            yield
        except CoreInfraError as error:
            _LOG.error("%s", describe_error(error))
            self._cycle.errors.append(error)
