"""The ports: where signals come from, and what is done about them.

A source and a handler are whatever has these names; neither must subclass anything. What a handler
may have besides (:class:`Reconciling`, :class:`Rehearsing`, :class:`Touching`) says more about it
and lets the poller do more for it.
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
    """Where signals come from."""

    @property
    def name(self) -> str:
        """What logs and metrics call it; no two sources of a poller have the same."""
        ...

    def poll(self) -> Iterable[PipelineSignal]:
        """Look at everything once.

        A signal that has a value of a wrong type is logged and passed over.

        Called on a thread of its own, never twice at once. What it raises is logged; the source is
        asked again later, and later still if it goes on. If the error has a ``retry_at`` (a
        datetime with a time zone), it is not asked before.
        """
        ...

    def report(self, result: ActionResult) -> None:
        """Tell the place that a signal came from what was done about it.

        Called once for each result, after it is on the disk; not repeated after a crash.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One action, from its intent to its result: what a handler is told besides the signal.

    Attributes:
        id: the same each time that this action is tried, in this process or a later one.
        action: the name of the handler.
        signal: what it is taken on.
        attempt: 1 for the first time.
        first_tried: when that was.
        cycle: the poller's cycle.
        timeout: how long it may take, in seconds.
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
        """A comment for Markdown that shows nothing: put into a post, it is found again later."""
        return f"<!-- core-infra-job {self.id} -->"

    def done(self) -> ActionResult:
        """The result of an action that was done."""
        return ActionResult.of(self.signal, self.action, cycle=self.cycle)

    def failed(self, error: str) -> ActionResult:
        """The result of an action that was not done, and why."""
        return ActionResult.of(
            self.signal, self.action, success=False, error=error, cycle=self.cycle
        )


class JobHandler(Protocol):
    """What is done about a signal.

    The poller hands a handler to an executor. For one that runs it elsewhere, such as a Dask
    cluster, it must be picklable.
    """

    @property
    def name(self) -> str:
        """The action, as journals tell it; no two handlers of a poller have the same."""
        ...

    def match(self, signal: PipelineSignal) -> bool:
        """Tell whether to act on a signal; quick, and without looking at anything else.

        Of the same signal it says the same each time: it is asked twice about what it matches.

        The fields that are read here are the state that is acted on: the action is taken once for
        each combination of their values. A handler that is to act again after the next commit
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

    It is asked after a crash, and before a failed action is tried again. The actions of a handler
    that cannot tell are never tried a second time on the same state.
    """

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Tell whether the action was done; False also if doing it once more does no harm.

        Raises:
            Exception: it cannot be found out now. It is asked again later.
        """
        ...


class Rehearsing(Protocol):
    """A handler that can say exactly what it would do."""

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """Tell each step that would change something, and change nothing."""
        ...


class Touching(Protocol):
    """A handler that changes more than the item of the signal."""

    def touches(self, signal: PipelineSignal) -> Sequence[int]:
        """The numbers of the issues and pull requests that no other action may touch meanwhile."""
        ...


# Checks by isinstance of a Protocol take as long as all else that is done for a signal.


def as_reconciling(handler: JobHandler) -> Reconciling | None:
    """The handler, if it can find out later whether an action was done."""
    return cast("Reconciling", handler) if hasattr(handler, "happened") else None


def as_rehearsing(handler: JobHandler) -> Rehearsing | None:
    """The handler, if it can say what it would do."""
    return cast("Rehearsing", handler) if hasattr(handler, "rehearse") else None


def as_touching(handler: JobHandler) -> Touching | None:
    """The handler, if it says what else it changes."""
    return cast("Touching", handler) if hasattr(handler, "touches") else None
