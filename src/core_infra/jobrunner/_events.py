"""The events that a poller sends to its bus."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.framework._bus import Bus
    from core_infra.jobrunner._forges.rate_limits import RateLimit
    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._signal import ActionResult

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ActionSourcePolled:
    """A source was polled.

    Attributes:
        source: its name.
        signals: how many signals it gave.
        duration: how long it took, in seconds.
        error: why it failed; empty if it did not.
        limits: the rate limits of its forge.
    """

    source: str
    signals: int
    duration: float
    error: str = ""
    limits: Sequence[RateLimit] = ()


@dataclasses.dataclass(frozen=True)
class ActionJobStarted:
    """An action starts; its intent is on the disk.

    Attributes:
        job: the action.
    """

    job: Job


@dataclasses.dataclass(frozen=True)
class ActionJobEnded:
    """An action has ended; its result is on the disk.

    Attributes:
        job: the action.
        result: its result.
    """

    job: Job
    result: ActionResult


@dataclasses.dataclass(frozen=True)
class ActionCycleEnded:
    """A cycle of the poller has ended.

    Attributes:
        cycle: its number.
        duration: how long it took, in seconds.
    """

    cycle: int
    duration: float


def publish(bus: Bus | None, event: object) -> None:
    """Send an event to a bus, if there is one."""
    if bus is not None:
        try:
            bus.action(event)
        except Exception as error:  # noqa: BLE001 - a listener must not stop the poller
            _LOG.error("%s", describe_error(error))
