"""What is to be done about signals."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import operator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.jobrunner._handler_calls import told
from core_infra.jobrunner._interfaces import Job, as_reconciling, as_touching
from core_infra.jobrunner._journal.index import Status
from core_infra.jobrunner._signal import PipelineSignal, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from core_infra.jobrunner._handler_calls import Item
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._journal.index import State


_LOG = logging.getLogger(__name__)


class Match(NamedTuple):
    """A handler that matches a signal.

    Attributes:
        id: of the action.
        handler: the first that matches.
        signal: what it matches.
    """

    id: str
    handler: JobHandler
    signal: PipelineSignal


class Rules(NamedTuple):
    """When an action is tried again, and for how long.

    Attributes:
        interval: the poller's, in seconds.
        attempts: how often at most.
        timeout: how long an action may take, in seconds.
    """

    interval: float
    attempts: int
    timeout: float


def match(signals: Iterable[PipelineSignal], handlers: Sequence[JobHandler]) -> Iterator[Match]:
    """Find the first handler for each signal; one that raises is passed over, and logged."""
    for signal in signals:
        for handler in handlers:
            try:
                seen = decide(handler, signal)
            except Exception as error:  # noqa: BLE001 - one handler must not stop the others
                _LOG.error("handler %s cannot match: %s", handler.name, told(error))
                continue
            if seen is not None:
                yield Match(action_id(handler.name, signal, seen), handler, signal)
                break


def jobs(
    matches: Mapping[str, Match],
    states: Mapping[str, State],
    rules: Rules,
    *,
    now: datetime,
    cycle: int,
) -> Iterator[tuple[JobHandler, Job]]:
    """Leave out what was done already, and what must wait before it is tried again."""
    for name, (_, handler, signal) in matches.items():
        attempt, first = 1, now
        if (state := states.get(name)) is not None:
            if not is_due(
                state, handler, now=now, interval=rules.interval, attempts=rules.attempts
            ):
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
                timeout=rules.timeout,
            ),
        )


def reopened(state: State, rules: Rules, *, cycle: int) -> Job:
    """The job that was interrupted, as far as the journal has it.

    Raises:
        InvalidError: the signal in the journal is none.
    """
    return Job(
        id=state.id,
        action=state.action,
        signal=PipelineSignal.from_dict(state.signal, where=f"the signal of action {state.id}"),
        attempt=state.attempt,
        first_tried=state.first,
        cycle=cycle,
        timeout=rules.timeout,
    )


def items(handler: JobHandler, signal: PipelineSignal) -> frozenset[Item]:
    """What an action on a signal touches: the child and its pull request, or the epic.

    Raises:
        Exception: what the handler raises; TypeError if it names what is no number.
    """
    forge, owner, name = signal.forge, signal.repo_owner, signal.repo_name
    numbers = {signal.child_number, signal.pr_number} - {0} or {signal.epic_number}
    if (touching := as_touching(handler)) is not None:
        numbers |= {operator.index(number) for number in touching.touches(signal)}
    return frozenset([(forge, owner, name, number) for number in numbers])


class Observed(PipelineSignal):
    """A signal that remembers which of its fields were read.

    Args:
        signal: what it is the same as.
    """

    __slots__ = ("_seen",)

    def __init__(self, signal: PipelineSignal) -> None:
        vars(self).update(vars(signal))
        object.__setattr__(self, "_seen", {})

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in _FIELDS:
            object.__getattribute__(self, "_seen")[name] = value
        return value


def decide(handler: JobHandler, signal: PipelineSignal) -> dict[str, object] | None:
    """Ask a handler whether it matches.

    Returns:
        If it does, the fields that it read in order to decide so, with their values.

    Raises:
        Exception: what the handler raises.
    """
    # Most handlers do not match most signals: only those that do are watched.
    if not handler.match(signal):
        return None
    observed = Observed(signal)
    if not handler.match(observed):
        return None
    seen: dict[str, object] = object.__getattribute__(observed, "_seen")
    return seen


def action_id(action: str, signal: PipelineSignal, seen: dict[str, object]) -> str:
    """Name an action: the same for the same handler, item and state, in any process.

    It has 128 bits, which is more than enough to never meet by chance.
    """
    key = [action, *_IDENTITY(signal), sorted(seen.items())]
    return hashlib.sha256(canonical(key)).hexdigest()[:32]


_FIELDS = frozenset(PipelineSignal.__dataclass_fields__)
_IDENTITY = operator.attrgetter(
    "forge", "repo_owner", "repo_name", "epic_number", "child_number", "pr_number"
)


_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LONGEST = 3600.0
"""Seconds between two attempts at most."""


def pause(interval: float, failures: int) -> timedelta:
    """How long to wait after some failures in a row: twice as long each time, up to an hour."""
    return timedelta(seconds=min(interval * 2.0 ** min(failures - 1, 30), _LONGEST))


def is_due(
    state: State, handler: JobHandler, *, now: datetime, interval: float, attempts: int
) -> bool:
    """Tell whether an action that was begun before is to be tried again."""
    if state.status in {Status.PENDING, Status.DONE} or as_reconciling(handler) is None:
        # Of a handler that cannot tell, only what certainly was not begun.
        return state.status is Status.INTERRUPTED
    if state.status is Status.INTERRUPTED:
        return True
    return state.attempt < attempts and now >= state.last + pause(interval, state.attempt)


@dataclasses.dataclass
class Patience:
    """How a source fares.

    Attributes:
        failures: how often it failed in a row.
        not_before: when it may be asked again.
        asked: it has not answered yet.
    """

    failures: int = 0
    not_before: datetime = _LONG_AGO
    asked: bool = False

    def succeeded(self) -> None:
        """It has answered."""
        self.failures = 0

    def failed(self, error: BaseException, *, now: datetime, interval: float) -> None:
        """It has failed; an error with a ``retry_at`` knows when to come back."""
        self.failures += 1
        # The first failure costs no cycle: the next one is a whole interval away anyway.
        wait = pause(interval, self.failures - 1) if self.failures > 1 else timedelta(0)
        self.not_before = now + wait
        retry_at = getattr(error, "retry_at", None)
        # Without a time zone it is not comparable: nobody can tell which moment it is.
        if isinstance(retry_at, datetime) and retry_at.tzinfo is not None:
            self.not_before = max(self.not_before, retry_at)
