"""What is handed to the executor: functions and values that can be pickled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError
from core_infra.jobrunner._interfaces import as_reconciling, as_rehearsing
from core_infra.jobrunner._signal import ActionResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.jobrunner._interfaces import Job, JobHandler, JobSource

    Item = tuple[str, str, str, int]


class Task(NamedTuple):
    """One thing to do about one signal.

    Attributes:
        call: :func:`act`, :func:`look_up` or :func:`rehearse`.
        handler: whose.
        job: what it is told.
        items: what no other task may touch meanwhile.
        source: where the signal came from; None if it came from the journal.
    """

    call: Callable[[JobHandler, Job], Outcome]
    handler: JobHandler
    job: Job
    items: frozenset[Item]
    source: JobSource | None


class Outcome(NamedTuple):
    """What came of a task.

    Attributes:
        success: whether the action was done.
        error: what went wrong.
        duration: how long it took, in seconds.
        steps: what would be done, for a rehearsal.
    """

    success: bool
    error: str = ""
    duration: float = 0.0
    steps: Sequence[str] = ()


def act(handler: JobHandler, job: Job) -> Outcome:
    """Take an action; one that was tried before, only if it was not done then."""
    start = time.perf_counter()
    try:
        if job.attempt > 1 and _happened(handler, job):
            return Outcome(success=True, duration=time.perf_counter() - start)
        success, error = _sound(handler.execute(job.signal, job))
    except Exception as raised:  # noqa: BLE001 - whatever it is, it becomes the result
        success, error = False, told(raised)
    return Outcome(success, error, time.perf_counter() - start)


def look_up(handler: JobHandler, job: Job) -> Outcome:
    """Find out whether an interrupted action was done.

    Raises:
        Exception: it cannot be found out now.
    """
    start = time.perf_counter()
    success = _happened(handler, job)
    return Outcome(success, "" if success else "interrupted", time.perf_counter() - start)


def rehearse(handler: JobHandler, job: Job) -> Outcome:
    """Tell what an action would do."""
    rehearsing = as_rehearsing(handler)
    if rehearsing is None:
        return Outcome(success=True, steps=[f"{job.action} {job.signal.item}"])
    try:
        return Outcome(success=True, steps=list(rehearsing.rehearse(job.signal, job)))
    except Exception as error:  # noqa: BLE001 - what it would come to
        return Outcome(success=False, error=told(error))


def told(error: BaseException) -> str:
    """An error as a journal tells it: on one line, and of a bearable length."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - nor may an error be that cannot tell what it is
        text = ""
    if isinstance(error, CoreInfraError) and error.todo:
        head = text.removesuffix(error.todo).rstrip()
        text = f"{head}{'' if head.endswith(('.', '!', '?', '…')) else '.'} {error.todo}"
    return _short(" ".join(text.split()) or type(error).__name__)


def _sound(result: object) -> tuple[bool, str]:
    """Success and error of what a handler returned; a wrong type is a failure that says so.

    Here, not where it is written down: that would fail for other actions too.
    """
    if not isinstance(result, ActionResult):
        what = type(result).__name__
        return False, f"the handler returned {what} instead of an ActionResult"
    success: object = result.success
    error: object = result.error
    if isinstance(error, bytes):  # what a program wrote
        error = error.decode(errors="replace")
    if not isinstance(success, bool) or not isinstance(error, str):
        return False, (
            "the handler returned an ActionResult whose success is of the type "
            f"{type(success).__name__} and whose error is of the type {type(error).__name__}"
        )
    return success, _short(error)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _happened(handler: JobHandler, job: Job) -> bool:
    reconciling = as_reconciling(handler)
    return reconciling is not None and bool(reconciling.happened(job.signal, job))


_LONG = 2000
