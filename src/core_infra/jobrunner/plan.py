"""What is to be done about signals."""

from __future__ import annotations

import logging
import operator
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner.observe import action_id, decide
from core_infra.jobrunner.ports import Job, as_touching
from core_infra.jobrunner.schedule import is_due
from core_infra.jobrunner.signal import PipelineSignal
from core_infra.jobrunner.work import told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from core_infra.jobrunner.journal.state import State
    from core_infra.jobrunner.ports import JobHandler
    from core_infra.jobrunner.work import Item

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
