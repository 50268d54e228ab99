"""Asks sources, all at once, and tells them what came of it."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from core_infra.errors import TimeoutExpiredError
from core_infra.jobrunner._handler_calls import told
from core_infra.jobrunner._plan import Patience
from core_infra.jobrunner._signal import unusable
from core_infra.jobrunner._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._clock import Clock
    from core_infra.jobrunner._interfaces import JobSource
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal

    Answer = list[PipelineSignal] | BaseException
    Answered = Callable[[JobSource, Answer, float], None]

_LOG = logging.getLogger(__name__)


class Polls:
    """Asks sources on threads of their own; one that hangs or fails costs the others nothing.

    Not for several threads: all is done by the poller's own.

    Args:
        timeout: how long a source may take, in seconds.
        interval: the poller's, in seconds.
        clock: tells when a source may be asked again.
        inbox: what the poller's thread calls.
        answered: called with a source, its signals or its error, and the seconds that it took.
    """

    def __init__(
        self, *, timeout: float, interval: float, clock: Clock, inbox: Inbox, answered: Answered
    ) -> None:
        self._timeout = timeout
        self._interval = interval
        self._clock = clock
        self._inbox = inbox
        self._answered = answered
        self._threads = DaemonThreads("core-infra-source")
        self._patience: dict[str, Patience] = {}
        self._open: dict[object, tuple[JobSource | None, float]] = {}
        """What is waited for, and until when; the source of a poll, None for a report."""

    @property
    def idle(self) -> bool:
        """No answer is waited for."""
        return not self._open

    def ask(self, sources: Iterable[JobSource]) -> None:
        """Poll those whose turn it is."""
        for source in sources:
            patience = self._patience.setdefault(source.name, Patience())
            if patience.asked:
                _LOG.warning("source %s still has not answered", source.name)
            elif self._clock.now() < patience.not_before:
                _LOG.info("source %s is left alone until %s", source.name, patience.not_before)
            else:
                patience.asked = True
                self._submit(source, partial(self._got, source, time.monotonic()), _poll, source)

    def report(self, source: JobSource, results: Sequence[ActionResult]) -> None:
        """Tell a source what came of its signals."""
        self._submit(None, partial(self._reported, source), _report, source, results)

    def deadline(self) -> float:
        """When the next of them will have taken too long, by the monotonic clock."""
        return min((until for _, until in self._open.values()), default=float("inf"))

    def give_up(self, now: float) -> None:
        """Wait no longer for those whose time has passed; infinity for all."""
        for call in [call for call, (_, until) in self._open.items() if until <= now]:
            source, _ = self._open.pop(call)
            if source is not None:
                error = TimeoutExpiredError(
                    f"source {source.name!r} has not answered",
                    why=f"it was given {self._timeout:g} s",
                    todo="It is asked again once it has.",
                    timeout=self._timeout,
                )
                self._failed(source, error, self._timeout)

    def close(self) -> None:
        """Let its threads end."""
        self._threads.close()

    def _submit(
        self,
        source: JobSource | None,
        then: Callable[[Answer, bool], None],
        work: Callable[..., list[PipelineSignal]],
        *args: object,
    ) -> None:
        call = object()
        self._open[call] = (source, time.monotonic() + self._timeout)

        def end(answer: Answer) -> None:
            then(answer, self._open.pop(call, None) is not None)

        self._threads.call(lambda answer: self._inbox.put(partial(end, answer)), work, *args)

    def _got(
        self,
        source: JobSource,
        start: float,
        answer: Answer,
        in_time: bool,  # noqa: FBT001 - called by position, as a callback
    ) -> None:
        self._patience[source.name].asked = False
        if not in_time:
            return  # what it saw is old by now
        duration = time.monotonic() - start
        if isinstance(answer, BaseException):
            self._failed(source, answer, duration)
        else:
            self._patience[source.name].succeeded()
            self._answered(source, answer, duration)

    def _failed(self, source: JobSource, error: BaseException, duration: float) -> None:
        patience = self._patience[source.name]
        patience.failed(error, now=self._clock.now(), interval=self._interval)
        self._answered(source, error, duration)

    def _reported(self, source: JobSource, answer: Answer, _: bool) -> None:  # noqa: FBT001 - called by position, as a callback
        if isinstance(answer, BaseException):
            _LOG.error("source %s cannot report: %s", source.name, told(answer))


def _poll(source: JobSource) -> list[PipelineSignal]:
    signals = []
    for number, signal in enumerate(source.poll(), 1):
        if why := unusable(signal):
            _LOG.error("source %s: signal %d is passed over: %s", source.name, number, why)
        else:
            signals.append(signal)
    return signals


def _report(source: JobSource, results: Sequence[ActionResult]) -> list[PipelineSignal]:
    for result in results:
        source.report(result)
    return []
