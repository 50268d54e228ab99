"""Calls of handlers: functions and values that can be pickled, to be run by any executor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from core_infra.jobrunner._forges.errors import ForgeRefusedError, NotNowError
from core_infra.jobrunner._interfaces import as_reconciling, as_rehearsing
from core_infra.jobrunner._logging import describe_error, shortened
from core_infra.jobrunner._signal import ActionResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.jobrunner._interfaces import Job, JobHandler, JobSource

    Item = tuple[str, str, str, int]
    Repository = tuple[str, str, str]
    """Forge, owner and name."""


class HandlerCall(NamedTuple):
    """One call of a handler about one signal.

    Attributes:
        function: :func:`act`, :func:`look_up` or :func:`rehearse`.
        handler: the handler.
        job: what the handler is given.
        items: what no other call may touch meanwhile.
        source: where the signal came from; None if it came from the journal.
    """

    function: Callable[[JobHandler, Job], Outcome]
    handler: JobHandler
    job: Job
    items: frozenset[Item]
    source: JobSource | None

    @property
    def repository(self) -> Repository:
        """The repository of its items."""
        return next(iter(self.items))[:3]

    @property
    def priority(self) -> int:
        """The priority of its source."""
        return getattr(self.source, "priority", 0)


class Outcome(NamedTuple):
    """The outcome of a call.

    Attributes:
        success: whether the action was done.
        error: what went wrong.
        duration: how long it took, in seconds.
        steps: what would be done, for a rehearsal.
        end: how it ended, if not with a result: withdrawn, or given up for good.
    """

    success: bool
    error: str = ""
    duration: float = 0.0
    steps: Sequence[str] = ()
    end: Literal["", "withdrawn", "given_up"] = ""


def act(handler: JobHandler, job: Job) -> Outcome:
    """Perform an action; on a later attempt, only if an earlier one did not."""
    start = time.perf_counter()
    end: Literal["", "withdrawn", "given_up"] = ""
    try:
        if job.attempt > 1 and _happened(handler, job):
            return Outcome(success=True, duration=time.perf_counter() - start)
        success, error = _checked(handler.execute(job.signal, job))
    except Exception as raised:  # noqa: BLE001 - whatever it is, it becomes the result
        success, error = False, describe_error(raised)
        if isinstance(raised, NotNowError):
            end = "withdrawn"
        elif isinstance(raised, ForgeRefusedError) and raised.facts.get("final"):
            end = "given_up"
    return Outcome(success, error, time.perf_counter() - start, end=end)


def look_up(handler: JobHandler, job: Job) -> Outcome:
    """Find out whether an interrupted action was done.

    Raises:
        Exception: it cannot be found out now.
    """
    start = time.perf_counter()
    success = _happened(handler, job)
    return Outcome(success, "" if success else "interrupted", time.perf_counter() - start)


def rehearse(handler: JobHandler, job: Job) -> Outcome:
    """List what an action would do."""
    rehearsing = as_rehearsing(handler)
    if rehearsing is None:
        return Outcome(success=True, steps=[f"{job.action} {job.signal.item}"])
    try:
        return Outcome(success=True, steps=list(rehearsing.rehearse(job.signal, job)))
    except Exception as error:  # noqa: BLE001 - it is the outcome of the rehearsal
        return Outcome(success=False, error=describe_error(error))


def _checked(result: object) -> tuple[bool, str]:
    """Success and error of what a handler returned; a wrong type is a failure that says so.

    Checked here and not when it is written: there it would fail the other actions, too.
    """
    if not isinstance(result, ActionResult):
        what = type(result).__name__
        return False, f"the handler returned {what} instead of an ActionResult"
    success: object = result.success
    error: object = result.error
    if isinstance(error, bytes):  # the output of a program
        error = error.decode(errors="replace")
    if not isinstance(success, bool) or not isinstance(error, str):
        return False, (
            "the handler returned an ActionResult whose success is of the type "
            f"{type(success).__name__} and whose error is of the type {type(error).__name__}"
        )
    return success, shortened(error)


def _happened(handler: JobHandler, job: Job) -> bool:
    reconciling = as_reconciling(handler)
    return reconciling is not None and bool(reconciling.happened(job.signal, job))
