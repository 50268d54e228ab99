"""Polls sources, all at once, and reports results to them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import TimeoutExpiredError
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._matching import retry_delay
from core_infra.jobrunner._signal import why_unusable
from core_infra.jobrunner._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._clock import Clock
    from core_infra.jobrunner._interfaces import JobSource
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal

    Signals = list[PipelineSignal]

_LOG = logging.getLogger(__name__)
_STALE = 10
"""How many timeouts late an answer may be and still be used."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Answer(NamedTuple):
    """What one poll gave.

    Attributes:
        source: the source.
        signals: its signals, or the error that it raised.
        duration: how long it took, in seconds.
    """

    source: JobSource
    signals: Signals | BaseException
    duration: float


@dataclasses.dataclass
class _Backoff:
    """When a source may be polled again.

    Attributes:
        failures: how often it has failed in a row.
        not_before: the earliest time of the next poll.
        is_polled: it has not answered yet.
        asked: when it was asked last, by the monotonic clock.
    """

    failures: int = 0
    not_before: datetime = _LONG_AGO
    is_polled: bool = False
    asked: float = 0.0

    def failed(self, error: BaseException, *, now: datetime, interval: float) -> None:
        """Count a failure; an error with a ``retry_at`` says itself when to poll again."""
        self.failures += 1
        # The first failure costs no cycle: the next one is a whole interval away anyway.
        wait = retry_delay(interval, self.failures - 1) if self.failures > 1 else timedelta(0)
        self.not_before = now + wait
        retry_at = getattr(error, "retry_at", None)
        # A time without a time zone cannot be compared with ours.
        if isinstance(retry_at, datetime) and retry_at.tzinfo is not None:
            self.not_before = max(self.not_before, retry_at)


class SourcePolling:
    """Polls sources on threads of their own: one that hangs or fails does not delay the others.

    Not thread-safe: only the poller's thread uses it.

    Args:
        timeout: how long a source may take, in seconds.
        interval: the poller's, in seconds.
        clock: says when a source may be polled again.
        inbox: functions for the poller's thread to call.

    Attributes:
        answers: what polls gave, for the owner to take out.
    """

    def __init__(self, *, timeout: float, interval: float, clock: Clock, inbox: Inbox) -> None:
        self.answers: deque[Answer] = deque()
        self._timeout = timeout
        self._interval = interval
        self._clock = clock
        self._inbox = inbox
        self._threads = DaemonThreads("core-infra-source")
        self._backoffs: dict[str, _Backoff] = {}
        self._open: dict[object, tuple[JobSource | None, float]] = {}
        """What is waited for, and until when; the source of a poll, None for a report."""

    @property
    def idle(self) -> bool:
        """No answer is waited for or unseen."""
        return not (self._open or self.answers)

    @property
    def has_several(self) -> bool:
        """Whether there are several sources."""
        return len(self._backoffs) > 1

    @property
    def hanging(self) -> list[str]:
        """The names of the sources that have not answered for many timeouts; on any thread."""
        limit = time.monotonic() - _STALE * self._timeout
        return [
            name
            for name, backoff in list(self._backoffs.items())
            if backoff.is_polled and backoff.asked < limit
        ]

    def start(self, sources: Iterable[JobSource]) -> None:
        """Poll the sources whose turn it is."""
        for source in sources:
            backoff = self._backoffs.setdefault(source.name, _Backoff())
            if backoff.is_polled:
                _LOG.warning("source %s still has not answered", source.name)
            elif self._clock.now() < backoff.not_before:
                _LOG.info("source %s is not polled until %s", source.name, backoff.not_before)
            else:
                backoff.is_polled = True
                backoff.asked = time.monotonic()
                self._submit(source, partial(self._got, source, time.monotonic()), _poll, source)

    def report(self, source: JobSource, results: Sequence[ActionResult]) -> None:
        """Report the results of actions on its signals to a source."""
        self._submit(None, partial(self._reported, source), _report, source, results)

    def deadline(self) -> float:
        """When the next poll or report is overdue, by the monotonic clock."""
        return min((until for _, until in self._open.values()), default=float("inf"))

    def abandon(self, now: float) -> None:
        """Stop waiting for what is overdue; infinity for all. The answer is an error then."""
        for call in [call for call, (_, until) in self._open.items() if until <= now]:
            source, _ = self._open.pop(call)
            if source is not None:
                error = TimeoutExpiredError(
                    f"source {source.name!r} has not answered",
                    why=f"it was given {self._timeout:g} s",
                    todo="It is polled again once it has.",
                    timeout=self._timeout,
                )
                self._failed(source, error, self._timeout)

    def close(self) -> None:
        """Let its threads end."""
        self._threads.close()

    def _submit(
        self,
        source: JobSource | None,
        done: Callable[[Signals | BaseException, bool], None],
        function: Callable[..., Signals],
        *args: object,
    ) -> None:
        call = object()
        self._open[call] = (source, time.monotonic() + self._timeout)

        def end(answer: Signals | BaseException) -> None:
            done(answer, self._open.pop(call, None) is not None)

        self._threads.call(lambda answer: self._inbox.put(partial(end, answer)), function, *args)

    def _got(
        self,
        source: JobSource,
        start: float,
        answer: Signals | BaseException,
        in_time: bool,  # noqa: FBT001 - called by position, as a callback
    ) -> None:
        backoff = self._backoffs[source.name]
        backoff.is_polled = False
        duration = time.monotonic() - start
        if not in_time and (isinstance(answer, BaseException) or duration > _STALE * self._timeout):
            return  # its failure was counted when it was late, and what it saw is old by now
        if isinstance(answer, BaseException):
            self._failed(source, answer, duration)
        else:
            # Also if it is late: one that always takes longer has to be acted on, too.
            backoff.failures = 0
            self.answers.append(Answer(source, answer, duration))

    def _failed(self, source: JobSource, error: BaseException, duration: float) -> None:
        backoff = self._backoffs[source.name]
        backoff.failed(error, now=self._clock.now(), interval=self._interval)
        self.answers.append(Answer(source, error, duration))

    def _reported(
        self,
        source: JobSource,
        answer: Signals | BaseException,
        _: bool,  # noqa: FBT001 - called by position, as a callback
    ) -> None:
        if isinstance(answer, BaseException):
            _LOG.error("source %s cannot report: %s", source.name, describe_error(answer))


def _poll(source: JobSource) -> Signals:
    signals = []
    for number, signal in enumerate(source.poll(), 1):
        if why := why_unusable(signal):
            _LOG.error("source %s: signal %d is skipped: %s", source.name, number, why)
        else:
            signals.append(signal)
    return signals


def _report(source: JobSource, results: Sequence[ActionResult]) -> Signals:
    for result in results:
        source.report(result)
    return []
