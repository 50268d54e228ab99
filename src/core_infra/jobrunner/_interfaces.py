"""The interfaces of a poller's parts: where signals come from, and what is done about them.

A source or a handler is any object that has these methods; it need not subclass anything. The
optional methods of a handler (:class:`Reconciling`, :class:`Rehearsing`, :class:`Touching`) let the
poller do more for it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol, cast

from core_infra.jobrunner._signal import ActionResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from core_infra.jobrunner._signal import PipelineSignal


class JobSource(Protocol):
    """Where signals come from.

    Optional attributes: ``priority``, a whole number (default: 0): of the actions that wait, those
    on the signals of the source with the highest one start first; ``limits``, a list of
    :class:`RateLimit`, for metrics.
    """

    @property
    def name(self) -> str:
        """Its name in logs and metrics, unique among the sources of a poller."""
        ...

    def poll(self) -> Iterable[PipelineSignal]:
        """Look at everything once, and return the signals.

        A signal with a value of a wrong type is logged and skipped.

        Called on a thread of its own, never twice at once. An error is logged, and the source is
        polled again later; after several errors in a row, less often. If the error has a
        ``retry_at`` (a datetime with a time zone), the source is not polled before.
        """
        ...

    def report(self, result: ActionResult) -> None:
        """Report the result of an action to where its signal came from.

        Called once for each result, after it is on the disk; not repeated after a crash.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One action, from its intent to its result: what a handler gets besides the signal.

    Attributes:
        id: the id of the action: the same for each attempt, in this process or a later one.
        action: the name of the handler.
        signal: the signal.
        attempt: 1 for the first attempt.
        first_tried: the time of the first attempt.
        cycle: the number of the poller's cycle.
        timeout: how long the action may take, in seconds.
    """

    id: str
    action: str
    signal: PipelineSignal
    attempt: int = 1
    first_tried: datetime
    cycle: int = 0
    timeout: float

    @property
    def marker(self) -> str:
        """A comment in Markdown that is not shown: put it into a post to find the post later."""
        return f"<!-- core-infra-job {self.id} -->"

    def done(self) -> ActionResult:
        """The result of an action that was done."""
        return ActionResult.of(self.signal, self.action, cycle=self.cycle)

    def failed(self, error: str) -> ActionResult:
        """The result of an action that was not done, with the reason."""
        return ActionResult.of(
            self.signal, self.action, success=False, error=error, cycle=self.cycle
        )


class JobHandler(Protocol):
    """What is done about a signal.

    Optional attributes: ``chain = True`` lets the handlers behind it act on the same signals, too;
    ``per_pull = True`` makes one action of a pull request that closes several children; with
    ``sources``, a collection of names, it sees only the signals of those sources.

    The poller passes handlers to an executor. For an executor that runs them in other processes,
    such as a Dask cluster, they must be picklable.
    """

    @property
    def name(self) -> str:
        """The name of the action in journals, unique among the handlers of a poller."""
        ...

    def match(self, signal: PipelineSignal) -> bool:
        """Whether to act on a signal; quick, and without looking at anything else.

        Must return the same each time for the same signal: it is called twice if it matches.

        The fields that are read here are the state that is acted on: the action is performed once
        for each combination of their values. A handler that is to act again after the next commit
        reads ``last_commit_sha``.
        """
        ...

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Act; return ``job.done()`` or ``job.failed(why)``, or raise.

        Called on any thread, and for several items at once.
        """
        ...


class Reconciling(Protocol):
    """A handler that can find out later whether an action was done.

    The poller calls it after a crash, and before it retries a failed action. The actions of other
    handlers are never tried a second time on the same state.
    """

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Whether the action was done; False also if repeating it does no harm.

        Raises:
            Exception: it cannot be found out now. The poller tries again later.
        """
        ...


class Rehearsing(Protocol):
    """A handler that can list exactly what it would do."""

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """List each step that would change something, and change nothing."""
        ...


class Touching(Protocol):
    """A handler that changes more than the item of the signal."""

    def touches(self, signal: PipelineSignal) -> Sequence[int]:
        """The numbers of the issues and pull requests that no other action may touch meanwhile."""
        ...


# Not by isinstance: with a Protocol, it takes as long as everything else that is done for a signal.


def as_reconciling(handler: JobHandler) -> Reconciling | None:
    """The handler, if it can find out later whether an action was done."""
    return cast("Reconciling", handler) if hasattr(handler, "happened") else None


def as_rehearsing(handler: JobHandler) -> Rehearsing | None:
    """The handler, if it can list what it would do."""
    return cast("Rehearsing", handler) if hasattr(handler, "rehearse") else None


def as_touching(handler: JobHandler) -> Touching | None:
    """The handler, if it names what else it changes."""
    return cast("Touching", handler) if hasattr(handler, "touches") else None
