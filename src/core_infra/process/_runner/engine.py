"""The engine carries out the schedules of a run, and collects its results."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from core_infra._eventloop.caller_loop import CallerLoop
from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.process._errors import CannotKillError
from core_infra.process._runner.events import RunFinished, SpecFinished, SpecStarted, SpecWrote
from core_infra.process._runner.results import RunAllResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._eventloop.loop import Loop
    from core_infra.process._runner.attempt import Outcome
    from core_infra.process._runner.backends import Backend, OnLines, OnOutcome
    from core_infra.process._runner.events import RunEvent, RunStarted
    from core_infra.process._runner.graph import Graph
    from core_infra.process._runner.schedule import Schedule
    from core_infra.process._runner.spec import RunSpec


class Stop(enum.Enum):
    """Why a run is stopped; specs that are skipped for it say so."""

    CTRL_C = "the run was interrupted"
    CANCEL = "the run was cancelled"
    TIMEOUT = "the time for the run was over"


class AttemptEnded(NamedTuple):
    """An attempt at a spec has ended, at this time of ``time.monotonic``."""

    name: str
    outcome: Outcome
    at: float


class LinesWritten(NamedTuple):
    """A command has written lines."""

    name: str
    lines: tuple[str, ...]


class Engine:
    """Carries out schedules, one after another.

    Args:
        phases: the specs, and their schedule; a later phase cleans up: it starts when all before
            it has ended, with whatever result.
        make_backend: makes what starts the specs, from the function for their outcomes, the loop of
            the run, and the function for lines that they write (None: not wanted).
        listener: called with each event.
        announcement: the first event.
        timeout: seconds for the first phase.
        live: the listener also gets lines as they are written.

    Attributes:
        timed_out: the first phase took longer.
    """

    def __init__(
        self,
        phases: Sequence[tuple[Graph, Schedule]],
        make_backend: Callable[[OnOutcome, Loop, OnLines | None], Backend],
        listener: Callable[[RunEvent], object],
        announcement: RunStarted,
        timeout: float | None = None,
        *,
        live: bool = False,
    ) -> None:
        self.timed_out = False
        self._phases = phases
        self._graph, self._schedule = phases[0]
        self._timeout = timeout
        self._live = live
        self._deadline: float | None = None
        self._inbox: deque[AttemptEnded | Stop | LinesWritten] = deque()
        self._make_backend = make_backend
        self._backend: Backend
        self._loop: Loop | None = None
        self._listener = self._emit = listener
        self._failure: BaseException | None = None
        self._announcement = announcement
        self._results: dict[str, RunResult] = {}
        self._previous: dict[str, RunResult] = {}
        self._interrupted = False
        self._cleans_up = False
        self._stopping: Stop | None = None  # the current phase
        self._ctrl_c = 0
        self._start = 0.0

    def stop(self, why: Stop) -> None:
        """Start nothing more and stop what runs; on any thread.

        Only a second Ctrl-C stops the cleaning up. Before that phase, a second one kills what ends
        too slowly.
        """
        self._put(why)

    def run(self) -> RunAllResult:
        """Run all phases; returns the result, also of a run that was stopped.

        Raises:
            BaseException: what the listener raises, once nothing runs any more.
        """
        with CallerLoop() as loop:
            self._loop = loop
            self._start = time.monotonic()
            if self._timeout is not None:
                self._deadline = self._start + self._timeout
            for graph, schedule in self._phases:
                self._graph, self._schedule = graph, schedule
                on_lines = self._on_lines if self._live else None
                self._backend = self._make_backend(self._on_outcome, loop, on_lines)
                try:
                    self._run_phase()
                except BaseException as error:  # noqa: BLE001 - raised when nothing runs any more
                    self._failure = error
                    self._end_silently()
                self._backend.close()
                self._cleans_up, self._stopping, self._deadline = True, None, None
                self._emit = self._emit_if_possible
            if self._failure is not None:
                raise self._failure
            result = self._result()
            self._listener(RunFinished(result))
            return result

    def _run_phase(self) -> None:
        if not self._cleans_up:
            self._emit(self._announcement)
        while self._inbox:  # it may be stopped before it has begun
            self._handle(self._inbox.popleft())
        self._emit_started(self._start_ready())
        while self._schedule.running:
            self._handle(self._get())

    def _start_ready(self) -> list[RunSpec]:
        """Start all that can start; the listener is called afterwards, so that no place is idle.

        If the listener raises, all that the schedule calls running does run.
        """
        started = []
        while (name := self._schedule.next()) is not None:
            spec = self._graph.specs[name]
            self._backend.start(spec)
            started.append(spec)
        return started

    def _emit_started(self, specs: list[RunSpec]) -> None:
        for spec in specs:
            self._emit(SpecStarted(spec, 1, None))

    def _handle(self, message: AttemptEnded | Stop | LinesWritten) -> None:
        if isinstance(message, Stop):
            self._stop(message)
        elif isinstance(message, LinesWritten):
            self._emit(SpecWrote(self._graph.specs[message.name], message.lines))
        else:
            self._finish_attempt(message)

    def _finish_attempt(self, ended: AttemptEnded) -> None:
        name = ended.name
        spec = self._graph.specs[name]
        result = self._result_of(spec, ended)
        if self._is_retried(result):
            self._previous[name] = result
            self._backend.retry(spec)
            self._emit(SpecStarted(spec, result.attempts + 1, result))
            return
        self._results[name] = result
        skipped = self._schedule.finish(name, passed=result.passed)
        started = self._start_ready()
        self._emit(SpecFinished(result))
        self._skip(skipped)
        self._emit_started(started)

    def _stop(self, why: Stop) -> None:
        by_hand = why is Stop.CTRL_C
        self._ctrl_c += by_hand
        if self._cleans_up:
            self._interrupted |= by_hand
            if self._ctrl_c < 2 or not by_hand:  # noqa: PLR2004 - the second
                return
        elif self._stopping and not by_hand:
            return  # it is stopped already
        now = self._stopping is not None
        self._interrupted = True
        self._stopping = self._stopping or why
        self.timed_out |= why is Stop.TIMEOUT
        self._skip(self._schedule.stop(None))
        self._backend.stop(now=now, await_calls=by_hand and not now)

    def _is_retried(self, result: RunResult) -> bool:
        if result.passed or result.attempts > result.spec.retries or self._stopping:
            return False
        # What could not be killed of this attempt would disturb the next one.
        return not isinstance(result.error, CannotKillError)

    def _result_of(self, spec: RunSpec, ended: AttemptEnded) -> RunResult:
        outcome = ended.outcome
        end = ended.at - self._start
        previous = self._previous.get(spec.name)
        # By its own duration: the time that it waited in an executor does not count.
        started = previous.started if previous else max(end - outcome.duration, 0.0)
        return RunResult(
            spec.name,
            spec,
            exit_code=outcome.exit_code,
            duration=end - started if previous else outcome.duration,
            output_bytes=outcome.output_bytes,
            output_lost=outcome.output_lost,
            error=outcome.error,
            attempts=previous.attempts + 1 if previous else 1,
            started=started,
            value=outcome.value,
            usage=outcome.usage,
            cached=outcome.cached,
        )

    def _skip(self, names: list[str]) -> None:
        for name in names:
            cause = self._schedule.skipped[name]
            why = f"{cause!r} failed" if cause else (self._stopping or Stop.CTRL_C).value
            error = CoreInfraError(f"{name!r} did not run", why=why)
            spec = self._graph.specs[name]
            result = RunResult(name, spec, error=error, skipped=True, cause=cause)
            self._results[name] = result
            self._emit(SpecFinished(result))

    def _result(self) -> RunAllResult:
        names = (name for graph, _ in self._phases for name in graph.specs)
        results = tuple(self._results[name] for name in names)
        return RunAllResult(results, time.monotonic() - self._start, self._interrupted)

    def _emit_if_possible(self, event: RunEvent) -> None:
        """Call the listener while cleaning up, which goes on to its end if that raises."""
        if self._failure is not None:
            return
        try:
            self._listener(event)
        except BaseException as error:  # noqa: BLE001 - raised when nothing runs any more
            self._failure = error

    def _end_silently(self) -> None:
        """Stop what runs, and wait for it, without events."""
        self._schedule.stop(None)
        self._backend.stop()
        while self._schedule.running:
            message = self._get()
            if isinstance(message, AttemptEnded):
                self._schedule.finish(message.name, passed=False)

    # The inbox: filled on any thread, emptied on that of the run

    def _on_outcome(self, name: str, outcome: Outcome) -> None:
        self._put(AttemptEnded(name, outcome, time.monotonic()))

    def _on_lines(self, name: str, lines: tuple[str, ...]) -> None:
        self._put(LinesWritten(name, lines))

    def _put(self, message: AttemptEnded | Stop | LinesWritten) -> None:
        self._inbox.append(message)
        if self._loop is not None:  # else run() has not started, and will find it
            self._loop.wake()

    def _get(self) -> AttemptEnded | Stop | LinesWritten:
        assert self._loop is not None  # noqa: S101 - run() has set it
        left = None
        while True:
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._deadline = None
                    return Stop.TIMEOUT
            if self._inbox:
                return self._inbox.popleft()
            self._loop.run_once(left)
