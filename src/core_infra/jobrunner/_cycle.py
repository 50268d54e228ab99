"""One cycle, from top to bottom: poll, plan, act, record, report.

Everything here runs on the poller's thread. Sources, handlers and the disk are waited for on other
threads. What those have done arrives in the inbox, as functions that this thread calls.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.jobrunner._action_pool import ActionPool, submit_to_executor, submit_to_threads
from core_infra.jobrunner._cycle_state import Cycle
from core_infra.jobrunner._events import ActionJobStarted, ActionSourcePolled, publish
from core_infra.jobrunner._handler_calls import HandlerCall, act
from core_infra.jobrunner._interfaces import as_reconciling
from core_infra.jobrunner._journal.amendments import mark_of
from core_infra.jobrunner._journal.index import Index
from core_infra.jobrunner._leadership import Leadership
from core_infra.jobrunner._logging import describe_error, job_fields
from core_infra.jobrunner._outcomes import Outcomes
from core_infra.jobrunner._planner import Planner
from core_infra.jobrunner._result_writer import ResultWriter
from core_infra.jobrunner._source_polling import SourcePolling
from core_infra.jobrunner._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._interfaces import JobSource
    from core_infra.jobrunner._poller_config import PollerConfig

_LOG = logging.getLogger(__name__)
_FOREVER = float("inf")
_BATCH = 512
"""How many intents share one write. After a crash, about as many may have to be looked up."""


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
        self._planner = Planner(config, self._index)
        self._outcomes = Outcomes(self._writer, config.bus)

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
            self._planner.put_off_nothing()
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
            self._pool.is_shared = self._pool.is_shared or self._polling.has_several
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
        unfinished = {call.job.id for call in self._pool.active} | self._writer.unwritten
        for call in self._planner.interrupted(self._cycle, unfinished):
            if as_reconciling(call.handler) is not None:
                self._pool.add([call])
            else:
                self._outcomes.cannot_look_up(call)

    def _cancel_if_stopped(self) -> None:
        """Once the poller is stopped: start nothing more, and wait only for what runs."""
        if self._stop.is_set() and self._cycle.grace_deadline == _FOREVER:
            self._cycle.grace_deadline = time.monotonic() + self._config.grace_period
            self._cycle.planned.clear()
            self._outcomes.withdraw(self._pool.clear_waiting())
            self._polling.abandon(_FOREVER)

    def _plan_actions(self) -> None:
        """Step 1: for each signal that a source gave, find the handler that acts on it."""
        while self._polling.answers:
            source, answer, duration = self._polling.answers.popleft()
            limits = tuple(getattr(source, "limits", ())) if self._config.bus else ()
            polled = partial(ActionSourcePolled, source.name, duration=duration, limits=limits)
            if isinstance(answer, BaseException):
                if self._stop.is_set() and isinstance(answer, TimeoutExpiredError):
                    continue  # its time was cut short
                error = self._cycle.report.failures[source.name] = describe_error(answer)
                fields = {"facts": {"source": source.name}}
                _LOG.error("source %s: %s", source.name, error, extra=fields)
                publish(self._config.bus, polled(0, error=error))
                continue
            publish(self._config.bus, polled(len(answer)))
            self._cycle.report.signals += len(answer)
            if not self._stop.is_set():
                with self._errors_deferred():
                    calls = list(self._planner.plan(self._cycle, source, answer))
                    self._cycle.planned.add(
                        call for call in calls if not self._pool.is_blocked(call)
                    )

    def _start_actions(self) -> None:
        """Step 2: write the intents of planned actions to the disk, and start them."""
        self._start_waiting()
        while batch := self._next_batch():
            self._pool.add(self._with_intents(batch))
            self._start_waiting()

    def _next_batch(self) -> list[HandlerCall]:
        """The planned actions of repositories that could start one now."""
        take = partial(self._cycle.planned.take, self._pool.has_room)
        return list(islice(iter(take, None), _BATCH))

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
        self._outcomes.withdraw(rejected)
        if self._config.bus is not None:
            for call in started:
                if call.function is act:
                    publish(self._config.bus, ActionJobStarted(call.job))

    def _record_outcomes(self) -> None:
        """Step 3: have the outcomes of ended calls written, while the next actions run."""
        while self._pool.ended:
            call, outcome = self._pool.ended.popleft()
            if self._outcomes.record(self._cycle, call, outcome):
                self._planner.put_off(call.job)

    def _report_results(self) -> None:
        """Step 4: pass results that are on the disk to the report, the bus and the sources."""
        for source, results in self._outcomes.publish_written(self._cycle):
            self._polling.report(source, results)

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
        self._outcomes.withdraw(rejected)
        if is_leaving:
            for call in abandoned:
                _LOG.warning("action %s still runs", call.job.id, extra=job_fields(call.job))
        else:
            self._outcomes.overdue(self._cycle, abandoned, self._config.job_timeout)

    @contextlib.contextmanager
    def _errors_deferred(self) -> Iterator[None]:
        """Continue after an error of the journal; the poller raises it at the cycle's end."""
        try:
            yield
        except CoreInfraError as error:
            _LOG.error("%s", describe_error(error))
            self._cycle.errors.append(error)
