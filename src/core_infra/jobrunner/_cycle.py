"""One cycle: from what sources answer to results on the disk.

All happens on the poller's thread: what other threads have done comes to it through the inbox, as
something to call. Only handlers, sources and the disk are waited for elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.jobrunner._action_pool import Crew, on_executor, on_threads
from core_infra.jobrunner._config import CycleReport, PollerConfig, Rehearsal
from core_infra.jobrunner._events import ActionJobEnded, ActionJobStarted, ActionSourcePolled
from core_infra.jobrunner._handler_calls import Outcome, Task, act, look_up, rehearse, told
from core_infra.jobrunner._interfaces import Job, JobSource, as_reconciling
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._journal.index import Index
from core_infra.jobrunner._leadership import Leadership
from core_infra.jobrunner._logging import facts
from core_infra.jobrunner._plan import Rules, items, jobs, match, reopened
from core_infra.jobrunner._result_writer import Record, Recorder
from core_infra.jobrunner._source_polling import Polls
from core_infra.jobrunner._threads import DaemonThreads, NotBegunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


_LOG = logging.getLogger(__name__)
_BATCH = 512
"""How many intents share a trip to the disk. After a crash, as many may have to be looked up."""


class Engine:
    """Goes through cycles.

    Args:
        config: what its poller is made of.
        stop: set when no more is to be begun.
    """

    def __init__(self, config: PollerConfig, stop: threading.Event) -> None:
        self._config = config
        self._stop = stop
        self._rules = Rules(config.poll_interval, config.attempts, config.job_timeout)
        self._inbox: Inbox = queue.SimpleQueue()
        self._threads = DaemonThreads("core-infra-job")
        # Here, and not the poller's: what runs knows the engine, and so holds it, whoever lets go
        # of the poller.
        self._leadership = Leadership(config.journal.base_dir)
        self._index = Index(config.journal)
        self._caught_up = False
        self._crew = Crew(
            on_threads(self._threads) if config.executor is None else on_executor(config.executor),
            size=config.workers,
            timeout=config.job_timeout,
            inbox=self._inbox,
            ended=self._ended,
        )
        self._polls = Polls(
            timeout=config.poll_timeout,
            interval=config.poll_interval,
            clock=config.clock,
            inbox=self._inbox,
            answered=self._answered,
        )
        self._recorder = Recorder(config, self._index, self._inbox, self._written)
        self._now = Round(0, {}, dry_run=True)

    def catch_up(self, *, dry_run: bool) -> None:
        """Take the lead, which a dry run does not need, and notice of what another poller did.

        Raises:
            NotLeaderError: another poller acts on this journal.
            StorageError: the journal or its index cannot be read or written.
        """
        if not dry_run and self._leadership.take():
            self._caught_up = False
        if dry_run or not self._caught_up:
            self._index.catch_up()
            self._caught_up = True

    def go(self, now: Round, sources: Iterable[JobSource]) -> None:
        """Go through a cycle; interrupted by whatever it raises, it can only be closed."""
        self._now = now
        if not now.dry_run:
            with self._noting():
                self._resume()
            self._work()
        if not self._stop.is_set():
            self._polls.ask(sources)
        self._work()

    def wake(self) -> None:
        """Have a look at whether to stop."""
        self._inbox.put(lambda: None)

    def tell(self, event: object) -> None:
        """Tell the bus."""
        if self._config.bus is not None:
            try:
                self._config.bus.action(event)
            except Exception as error:  # noqa: BLE001 - who listens must not stop who acts
                _LOG.error("%s", told(error))

    def close(self) -> None:
        """Let go of everything; of the lead once nothing runs, not even what was given up."""
        self._crew.when_alone(self._leadership.release)
        for part in (self._polls, self._recorder, self._index):
            part.close()
        self._threads.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Go on after what cannot be read or written; it is raised at the cycle's end."""
        try:
            yield
        except CoreInfraError as error:
            _LOG.error("%s", told(error))
            self._now.errors.append(error)

    def _work(self) -> None:
        """Do what comes in until nothing is left to be waited for."""
        parts = (self._crew, self._polls, self._recorder)
        while True:
            self._advance()
            if not self._now.planned and all(part.idle for part in parts):
                return
            deadline = min(self._crew.deadline(), self._polls.deadline())
            if not (self._crew.idle and self._polls.idle):  # the disk is waited for in any case
                deadline = min(deadline, self._now.grace)
            left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
            try:
                self._inbox.get(timeout=max(0.0, left))()
            except queue.Empty:
                self._give_up(time.monotonic())
            # What has come in meanwhile at once: each wait hands the interpreter to another thread.
            with contextlib.suppress(queue.Empty):
                while True:
                    self._inbox.get_nowait()()

    def _advance(self) -> None:
        if self._stop.is_set() and self._now.grace == FOREVER:
            self._now.grace = time.monotonic() + self._config.grace_period
            self._now.planned.clear()
            self._withdraw(self._crew.dismiss())
            self._polls.give_up(FOREVER)
        self._start()
        planned = self._now.planned
        while planned and self._crew.wants_more:
            batch = [planned.popleft() for _ in range(min(_BATCH, len(planned)))]
            self._crew.add(self._intend(batch))
            self._start()

    def _start(self) -> None:
        begun, left = self._crew.start()
        self._withdraw(left)
        if self._config.bus is not None:
            for task in begun:
                if task.call is act:
                    self.tell(ActionJobStarted(task.job))

    def _resume(self) -> None:
        """See to what was begun in an earlier life and has no result."""
        running = {task.job.id for task in self._crew.given_up}
        for state in self._index.pending():
            if state.id in running:
                continue
            handler = self._now.handlers.get(state.action)
            if handler is None:
                _LOG.warning("action %s is open: there is no handler %s", state.id, state.action)
                continue
            try:
                job = reopened(state, self._rules, cycle=self._now.cycle)
                task = Task(look_up, handler, job, items(handler, job.signal), None)
            except Exception as broken:  # noqa: BLE001 - the others are to be looked up
                _LOG.error("action %s is open: %s", state.id, told(broken))
                continue
            if as_reconciling(handler) is not None:
                self._crew.add([task])
            else:
                error = "interrupted, and the handler cannot tell whether it was done"
                self._recorder.record(task, Phase.UNKNOWN, Outcome(success=False, error=error))

    def _answered(
        self, source: JobSource, answer: list[PipelineSignal] | BaseException, duration: float
    ) -> None:
        now = self._now
        if isinstance(answer, BaseException):
            if self._stop.is_set() and isinstance(answer, TimeoutExpiredError):
                return  # it was not given the time
            error = now.report.failures[source.name] = told(answer)
            _LOG.error(
                "source %s: %s", source.name, error, extra={"facts": {"source": source.name}}
            )
            self.tell(ActionSourcePolled(source.name, 0, duration, error))
            return
        self.tell(ActionSourcePolled(source.name, len(answer), duration))
        now.report.signals += len(answer)
        if not self._stop.is_set():
            with self._noting():
                now.planned += self._plan(source, answer)

    def _plan(self, source: JobSource, signals: Sequence[PipelineSignal]) -> list[Task]:
        now = self._now
        matches = {
            found.id: found
            for found in match(signals, list(now.handlers.values()))
            if found.id not in now.seen
        }
        now.seen |= matches.keys()
        states = self._index.states(matches)
        tasks = []
        for handler, job in jobs(
            matches, states, self._rules, now=self._config.clock.now(), cycle=now.cycle
        ):
            dry = now.dry_run or handler.name in self._config.dry_run_handlers
            call = rehearse if dry else act
            try:
                task = Task(call, handler, job, items(handler, job.signal), source)
            except Exception as error:  # noqa: BLE001 - one handler must not stop the others
                _LOG.error(
                    "handler %s cannot tell what %s touches: %s",
                    *(handler.name, job.signal.item, told(error)),
                    extra=facts(job),
                )
                continue
            if not self._crew.is_held(task):
                tasks.append(task)
        return tasks

    def _intend(self, tasks: list[Task]) -> list[Task]:
        """Write intents; give back those tasks that may begin."""
        try:
            self._recorder.intend([task.job for task in tasks if task.call is act])
        except CoreInfraError as error:
            if len(tasks) > 1:  # one of them must not stop the others
                return [task for one in tasks for task in self._intend([one])]
            _LOG.error("action %s is not begun: %s", tasks[0].job.action, told(error))
            self._now.errors.append(error)
            return []
        return tasks

    def _ended(self, task: Task, outcome: Outcome | BaseException) -> None:
        if task.call is rehearse:
            if isinstance(outcome, BaseException):
                outcome = Outcome(success=False, error=told(outcome))
            self._rehearsed(task.job, outcome)
        elif task.call is look_up:
            if isinstance(outcome, BaseException):
                _LOG.error("cannot look up action %s now: %s", task.job.id, told(outcome))
            else:
                phase = Phase.RESULT if outcome.success else Phase.INTERRUPTED
                self._recorder.record(task, phase, outcome)
        elif isinstance(outcome, NotBegunError):
            error = told(outcome)
            _LOG.error("%s is not begun: %s", task.job.action, error, extra=facts(task.job))
            self._recorder.record(task, Phase.WITHDRAWN, Outcome(success=False, error=error))
        elif isinstance(outcome, BaseException):  # the executor's, not the handler's
            self._recorder.record(task, Phase.UNKNOWN, Outcome(success=False, error=told(outcome)))
        else:
            self._recorder.record(task, Phase.RESULT, outcome)

    def _rehearsed(self, job: Job, outcome: Outcome) -> None:
        self._now.report.rehearsals.append(Rehearsal(job, outcome.steps, outcome.error))
        for step in outcome.steps or [outcome.error]:
            _LOG.info("dry run: %s would: %s", job.action, step, extra=facts(job))

    def _give_up(self, now: float) -> None:
        leaving = now >= self._now.grace
        self._polls.give_up(FOREVER if leaving else now)
        tasks, left = self._crew.give_up(FOREVER if leaving else now)
        self._withdraw(left)
        for task in tasks:
            if leaving:
                _LOG.warning("action %s still runs", task.job.id, extra=facts(task.job))
            elif task.call is act:
                error = f"it has not ended within {self._config.job_timeout:g} s, and may yet"
                duration = self._config.job_timeout
                self._recorder.record(task, Phase.UNKNOWN, Outcome(False, error, duration))  # noqa: FBT003
            elif task.call is rehearse:
                self._rehearsed(task.job, Outcome(success=False, error="it takes too long"))

    def _withdraw(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            if task.call is act:
                self._recorder.record(
                    task, Phase.WITHDRAWN, Outcome(success=False, error="not begun")
                )

    def _written(self, records: Sequence[Record], error: BaseException | None) -> None:
        if error is not None:
            _LOG.error("%d results could not be written: %s", len(records), told(error))
            self._now.errors.append(error)
            return
        by_source: dict[str, tuple[JobSource, list[ActionResult]]] = {}
        for task, _, result in records:
            if result is None:
                continue
            self._now.report.results.append(result)
            if self._config.bus is not None:
                self.tell(ActionJobEnded(task.job, result))
            level = logging.INFO if result.success else logging.ERROR
            if _LOG.isEnabledFor(level):
                outcome = "done" if result.success else f"failed: {result.error}"
                _LOG.log(level, "%s: %s", task.job.action, outcome, extra=facts(task.job))
            if task.source is not None:
                found = by_source.setdefault(task.source.name, (task.source, []))
                found[1].append(result)
        for source, results in by_source.values():
            self._polls.report(source, results)


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
