"""One run: what is started when, and what becomes of it."""

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
    from core_infra.process._runner.backends import Launcher, Report
    from core_infra.process._runner.backends import Wrote as WroteLines
    from core_infra.process._runner.events import RunEvent, RunStarted
    from core_infra.process._runner.graph import Graph
    from core_infra.process._runner.schedule import Schedule
    from core_infra.process._runner.spec import RunSpec


class Stop(enum.Enum):
    """Why a run is to end; what is skipped for it says so."""

    CTRL_C = "the run was interrupted"
    CANCEL = "the run was cancelled"
    TIMEOUT = "the time for the run was over"


class News(NamedTuple):
    """An attempt at a spec has ended, at this time of ``time.monotonic``."""

    name: str
    outcome: Outcome
    at: float


class Wrote(NamedTuple):
    """A command has written lines."""

    name: str
    lines: tuple[str, ...]


class Engine:
    """Carries out schedules, one after another.

    Args:
        phases: the specs, and when each may start; what is in a later one cleans up, and starts
            when all before has ended, however that was.
        launcher: makes what starts them, from the function that they report to, the loop that the
            run is on, and the function that hears what they write, if somebody wants that.
        listener: hears what happens.
        announcement: what it hears first.
        timeout: seconds for the first phase.
        live: the listener hears what commands write as it comes.

    Attributes:
        timed_out: these seconds did not suffice.
    """

    def __init__(
        self,
        phases: Sequence[tuple[Graph, Schedule]],
        launcher: Callable[[Report, Loop, WroteLines | None], Launcher],
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
        self._news: deque[News | Stop | Wrote] = deque()
        self._make_launcher = launcher
        self._launcher: Launcher
        self._loop: Loop | None = None
        self._listener = self._tell = listener
        self._failure: BaseException | None = None
        self._announcement = announcement
        self._results: dict[str, RunResult] = {}
        self._previous: dict[str, RunResult] = {}
        self._interrupted = False
        self._cleans_up = False
        self._stopping: Stop | None = None  # what runs now
        self._ctrl_c = 0
        self._start = 0.0

    def stop(self, why: Stop) -> None:
        """Start nothing more and end what runs; from any thread.

        What cleans up is ended only by a second Ctrl-C. Before that, one more kills what ends too
        slowly.
        """
        self._put(why)

    def _report(self, name: str, outcome: Outcome) -> None:
        self._put(News(name, outcome, time.monotonic()))

    def _hear_lines(self, name: str, lines: tuple[str, ...]) -> None:
        self._put(Wrote(name, lines))

    def _put(self, news: News | Stop | Wrote) -> None:
        self._news.append(news)
        if self._loop is not None:  # else run() has not come so far, and will see it
            self._loop.wake()

    def _get(self) -> News | Stop | Wrote:
        assert self._loop is not None  # noqa: S101 - it is run
        left = None
        while True:
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._deadline = None
                    return Stop.TIMEOUT
            if self._news:
                return self._news.popleft()
            self._loop.run_once(left)

    def run(self) -> RunAllResult:
        """Run all; the result, also if it was interrupted.

        Raises:
            BaseException: what the listener raises; nothing runs any more by then.
        """
        with CallerLoop() as loop:
            self._loop = loop
            self._start = time.monotonic()
            if self._timeout is not None:
                self._deadline = self._start + self._timeout
            for graph, schedule in self._phases:
                self._graph, self._schedule = graph, schedule
                wrote = self._hear_lines if self._live else None
                self._launcher = self._make_launcher(self._report, loop, wrote)
                try:
                    self._go_through()
                except BaseException as error:  # noqa: BLE001 - raised when nothing runs any more
                    self._failure = error
                    self._end_quietly()
                self._launcher.close()
                self._cleans_up, self._stopping, self._deadline = True, None, None
                self._tell = self._tell_if_possible
            if self._failure is not None:
                raise self._failure
            result = self._result()
            self._listener(RunFinished(result))
            return result

    def _go_through(self) -> None:
        """All of a phase."""
        if not self._cleans_up:
            self._tell(self._announcement)
        while self._news:  # it is to end before it has begun
            self._take(self._news.popleft())
        self._tell_started(self._start_ready())
        while self._schedule.running:
            self._take(self._get())

    def _start_ready(self) -> list[RunSpec]:
        """Start all that can be; whoever listens is told afterwards, so that no place is empty.

        If that raises, all that the schedule calls running does run.
        """
        started = []
        while (name := self._schedule.next()) is not None:
            spec = self._graph.specs[name]
            self._launcher.start(spec)
            started.append(spec)
        return started

    def _tell_started(self, specs: list[RunSpec]) -> None:
        for spec in specs:
            self._tell(SpecStarted(spec, 1, None))

    def _end(self, why: Stop) -> None:
        by_hand = why is Stop.CTRL_C
        self._ctrl_c += by_hand
        if self._cleans_up:
            self._interrupted |= by_hand
            if self._ctrl_c < 2 or not by_hand:  # noqa: PLR2004 - the second
                return
        elif self._stopping and not by_hand:
            return  # it ends already
        now = self._stopping is not None
        self._interrupted = True
        self._stopping = self._stopping or why
        self.timed_out |= why is Stop.TIMEOUT
        self._skip(self._schedule.stop(None))
        self._launcher.cancel(now=now, await_calls=by_hand and not now)

    def _take(self, news: News | Stop | Wrote) -> None:
        if not isinstance(news, News):
            if isinstance(news, Stop):
                self._end(news)
            else:
                self._tell(SpecWrote(self._graph.specs[news.name], news.lines))
            return
        name = news.name
        spec = self._graph.specs[name]
        result = self._result_of(spec, news)
        if self._is_tried_again(result):
            self._previous[name] = result
            self._launcher.again(spec)
            self._tell(SpecStarted(spec, result.attempts + 1, result))
            return
        self._results[name] = result
        skipped = self._schedule.finish(name, passed=result.passed)
        started = self._start_ready()
        self._tell(SpecFinished(result))
        self._skip(skipped)
        self._tell_started(started)

    def _is_tried_again(self, result: RunResult) -> bool:
        if result.passed or result.attempts > result.spec.retries or self._stopping:
            return False
        # What still runs of this attempt would be in the way of the next one.
        return not isinstance(result.error, CannotKillError)

    def _result_of(self, spec: RunSpec, news: News) -> RunResult:
        outcome = news.outcome
        end = news.at - self._start
        previous = self._previous.get(spec.name)
        # Told by where it ran: how long an executor let it wait is not its own.
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
            self._tell(SpecFinished(result))

    def _result(self) -> RunAllResult:
        names = (name for graph, _ in self._phases for name in graph.specs)
        results = tuple(self._results[name] for name in names)
        return RunAllResult(results, time.monotonic() - self._start, self._interrupted)

    def _tell_if_possible(self, event: RunEvent) -> None:
        """What cleans up runs to its end, even if nobody can hear of it."""
        if self._failure is not None:
            return
        try:
            self._listener(event)
        except BaseException as error:  # noqa: BLE001 - raised when nothing runs any more
            self._failure = error

    def _end_quietly(self) -> None:
        self._schedule.stop(None)
        self._launcher.cancel()
        while self._schedule.running:
            news = self._get()
            if isinstance(news, News):
                self._schedule.finish(news.name, passed=False)
