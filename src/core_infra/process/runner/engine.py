"""One run: what is started when, and what becomes of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError
from core_infra.process.errors import CannotKillError
from core_infra.process.own_loop import OwnLoop
from core_infra.process.real import time
from core_infra.process.runner.events import RunFinished, SpecFinished, SpecStarted
from core_infra.process.runner.results import RunAllResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.loop import Loop
    from core_infra.process.runner.attempt import Outcome
    from core_infra.process.runner.events import Event, RunStarted
    from core_infra.process.runner.graph import Graph
    from core_infra.process.runner.launcher import Launcher, Report
    from core_infra.process.runner.schedule import Schedule
    from core_infra.process.runner.spec import RunSpec


class News(NamedTuple):
    """An attempt at a spec has ended, at this time of ``time.monotonic``."""

    name: str
    outcome: Outcome
    at: float


class Engine:
    """Carries out a schedule.

    Args:
        graph: the specs.
        schedule: when each may start; fresh.
        launcher: makes what starts them, from the function that they report to and the loop that
            the run is on.
        listener: hears what happens.
        announcement: what it hears first.
    """

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        launcher: Callable[[Report, Loop], Launcher],
        listener: Callable[[Event], object],
        announcement: RunStarted,
    ) -> None:
        self._graph = graph
        self._schedule = schedule
        self._news: deque[News | None] = deque()
        self._make_launcher = launcher
        self._launcher: Launcher
        self._loop: Loop | None = None
        self._tell = listener
        self._announcement = announcement
        self._results: dict[str, RunResult] = {}
        self._previous: dict[str, RunResult] = {}
        self._interrupted = False
        self._start = 0.0

    def interrupt(self) -> None:
        """Start nothing more and end what runs; from any thread."""
        self._put(None)

    def _report(self, name: str, outcome: Outcome) -> None:
        self._put(News(name, outcome, time.monotonic()))

    def _put(self, news: News | None) -> None:
        self._news.append(news)
        if self._loop is not None:  # else run() has not come so far, and will see it
            self._loop.wake()

    def _get(self) -> News | None:
        assert self._loop is not None  # noqa: S101 - it is run
        while not self._news:
            self._loop.turn()
        return self._news.popleft()

    def run(self) -> RunAllResult:
        """Run all; the result, also if it was interrupted.

        Raises:
            BaseException: what the listener raises; nothing runs any more by then.
        """
        with OwnLoop() as loop:
            self._loop = loop
            self._launcher = self._make_launcher(self._report, loop)
            return self._run()

    def _run(self) -> RunAllResult:
        self._start = time.monotonic()
        try:
            self._tell(self._announcement)
            self._tell_started(self._start_ready())
            while self._schedule.running:
                self._take(self._get())
            self._launcher.close()
            result = self._result()
            self._tell(RunFinished(result))
        except BaseException:
            self._end_quietly()
            raise
        return result

    def _start_ready(self) -> list[RunSpec]:
        """Start all that can be; whoever listens is told afterwards, so that no place is empty.

        If he raises, all that the schedule calls running does run.
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

    def _take(self, news: News | None) -> None:
        if news is None:
            self._interrupted = True
            self._skip(self._schedule.stop(None))
            self._launcher.cancel()
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
        if result.passed or result.attempts > result.spec.retries or self._interrupted:
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
        )

    def _skip(self, names: list[str]) -> None:
        for name in names:
            cause = self._schedule.skipped[name]
            why = "the run was interrupted" if cause is None else f"{cause!r} failed"
            error = CoreInfraError(f"{name!r} did not run", why=why)
            spec = self._graph.specs[name]
            result = RunResult(name, spec, error=error, skipped=True, cause=cause)
            self._results[name] = result
            self._tell(SpecFinished(result))

    def _result(self) -> RunAllResult:
        results = tuple(self._results[name] for name in self._graph.specs)
        return RunAllResult(results, time.monotonic() - self._start, self._interrupted)

    def _end_quietly(self) -> None:
        self._schedule.stop(None)
        self._launcher.cancel()
        while self._schedule.running:
            news = self._get()
            if news is not None:
                self._schedule.finish(news.name, passed=False)
        self._launcher.close()
