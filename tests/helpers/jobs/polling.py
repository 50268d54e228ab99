"""What tests of pollers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core_infra.jobrunner import Poller

if TYPE_CHECKING:
    from core_infra.jobrunner import Entry, Journal, Phase

Make = Callable[..., Poller]
"""Makes a poller of handlers; see the fixture ``make``."""


def phases(journal: Journal) -> list[Phase]:
    return [entry.phase for entry in journal.entries()]


def last(journal: Journal) -> Entry:
    return list(journal.entries())[-1]
