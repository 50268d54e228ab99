"""Which handler acts on a signal, and whether it is its turn."""

from __future__ import annotations

import hashlib
import logging
import operator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.jobrunner._interfaces import Job, as_reconciling, as_touching
from core_infra.jobrunner._journal.index import ActionStatus
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._signal import PipelineSignal, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from core_infra.jobrunner._handler_calls import Item
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._journal.index import ActionState

_LOG = logging.getLogger(__name__)
_DELAY_MAX = 3600.0
"""Seconds between two attempts."""
_FIELDS = frozenset(PipelineSignal.__dataclass_fields__)
_IDENTITY = operator.attrgetter(
    "forge", "repo_owner", "repo_name", "epic_number", "child_number", "pr_number"
)


class Match(NamedTuple):
    """A handler that matches a signal.

    Attributes:
        id: the id of the action.
        handler: the handler.
        signal: the signal.
        after: how many handlers were asked, this one included.
    """

    id: str
    handler: JobHandler
    signal: PipelineSignal
    after: int = 0


class Limits(NamedTuple):
    """When an action is tried again, and for how long.

    Attributes:
        interval: the poller's, in seconds.
        attempts: how often an action is tried at most.
        timeout: how long an action may take, in seconds.
    """

    interval: float
    attempts: int
    timeout: float


def matches(signals: Iterable[PipelineSignal], handlers: Sequence[JobHandler]) -> Iterator[Match]:
    """Find the handlers that act on each signal; log and skip a handler that raises.

    That is the first that matches, and the first behind it if it has ``chain``, and so on.
    """
    # The optional attributes are read once, not for each signal.
    per_pull = [getattr(handler, "per_pull", False) for handler in handlers]
    chain = [getattr(handler, "chain", False) for handler in handlers]
    for signal in signals:
        for place, handler in enumerate(handlers):
            try:
                seen = _fields_read(handler, signal)
            except Exception as error:  # noqa: BLE001 - one handler must not stop the others
                _LOG.error("handler %s cannot match: %s", handler.name, describe_error(error))
                continue
            if seen is not None:
                name = action_id(handler.name, signal, seen, per_pull=per_pull[place])
                yield Match(name, handler, signal, place + 1)
                if not chain[place]:
                    break


def action_id(
    action: str, signal: PipelineSignal, seen: dict[str, object], *, per_pull: bool = False
) -> str:
    """The id of an action: the same for the same handler, item and state, in any process.

    It has 128 bits, so that two actions do not get the same one by chance.
    """
    item = _IDENTITY(signal)
    if per_pull and signal.pr_number:
        item = (*item[:3], 0, 0, signal.pr_number)
    key = [action, *item, sorted(seen.items())]
    return hashlib.sha256(canonical_json(key)).hexdigest()[:32]


def is_over(state: ActionState, handler: JobHandler, limits: Limits) -> bool:
    """Whether an action was not done and will not be tried again: other handlers may act then."""
    status = state.status
    if status is ActionStatus.UNKNOWN or status is ActionStatus.FAILED:
        return as_reconciling(handler) is None or state.attempt >= limits.attempts
    return status is ActionStatus.GIVEN_UP


def due_jobs(
    found: Mapping[str, Match],
    states: Mapping[str, ActionState],
    limits: Limits,
    *,
    now: datetime,
    cycle: int,
) -> Iterator[tuple[JobHandler, Job]]:
    """Make jobs of matches, without what was done already or must wait for its next attempt."""
    for name, (_, handler, signal, _) in found.items():
        attempt, first = 1, now
        if (state := states.get(name)) is not None:
            if not _is_due(state, handler, limits, now=now):
                continue
            attempt, first = state.attempt + 1, state.first
        yield (
            handler,
            Job(
                id=name,
                action=handler.name,
                signal=signal,
                attempt=attempt,
                first_tried=first,
                cycle=cycle,
                timeout=limits.timeout,
            ),
        )


def interrupted_job(state: ActionState, limits: Limits, *, cycle: int) -> Job:
    """Restore a job that was interrupted from what the journal has of it.

    Raises:
        InvalidError: the signal in the journal cannot be used.
    """
    return Job(
        id=state.id,
        action=state.action,
        signal=PipelineSignal.from_dict(state.signal, where=f"the signal of action {state.id}"),
        attempt=state.attempt,
        first_tried=state.first,
        cycle=cycle,
        timeout=limits.timeout,
    )


def touched_items(handler: JobHandler, signal: PipelineSignal) -> frozenset[Item]:
    """What an action on a signal touches: the child and its pull request, or the epic.

    Raises:
        Exception: what the handler raises; TypeError if it returns something else than numbers.
    """
    forge, owner, name = signal.forge, signal.repo_owner, signal.repo_name
    numbers = {signal.child_number, signal.pr_number} - {0} or {signal.epic_number}
    if (touching := as_touching(handler)) is not None:
        numbers |= {operator.index(number) for number in touching.touches(signal)}
    return frozenset([(forge, owner, name, number) for number in numbers])


def retry_delay(interval: float, failures: int) -> timedelta:
    """How long to wait after a number of failures in a row: doubled each time, up to an hour."""
    return timedelta(seconds=min(interval * 2.0 ** min(failures - 1, 30), _DELAY_MAX))


def _is_due(state: ActionState, handler: JobHandler, limits: Limits, *, now: datetime) -> bool:
    """Whether an action that was started before is to be tried again."""
    status = state.status
    if status is ActionStatus.DONE or status is ActionStatus.PENDING:
        return False
    if status is ActionStatus.INTERRUPTED:
        return True
    if status is ActionStatus.GIVEN_UP or as_reconciling(handler) is None:
        return False  # a handler that cannot look tries only what certainly was not started
    delay = retry_delay(limits.interval, state.attempt)
    is_late_enough: bool = now >= state.last + delay
    return is_late_enough and state.attempt < limits.attempts


class _RecordingSignal(PipelineSignal):
    """A signal that remembers which of its fields were read."""

    __slots__ = ("_seen",)

    def __init__(self, signal: PipelineSignal) -> None:
        # The same dictionary, not a copy: neither of them is changed, and this is done per match.
        object.__setattr__(self, "__dict__", vars(signal))
        object.__setattr__(self, "_seen", {})

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in _FIELDS:
            object.__getattribute__(self, "_seen")[name] = value
        return value


def _fields_read(handler: JobHandler, signal: PipelineSignal) -> dict[str, object] | None:
    """The fields that a handler reads to match a signal, with their values; None if it does not."""
    # Most handlers do not match most signals: fields are recorded only if one does.
    if not handler.match(signal):
        return None
    recording = _RecordingSignal(signal)
    if not handler.match(recording):
        return None
    seen: dict[str, object] = object.__getattribute__(recording, "_seen")
    return seen
