"""Stored durations of specs: hints for what to start first."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.medium._errors import PathNotFoundError

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium
    from core_infra.process._runner.results import RunAllResult

_MOST = 10_000
"""Names that are stored; those that ran longest ago are dropped."""

_log = logging.getLogger(__name__)


class Durations:
    """A JSON file of names and seconds.

    It only makes runs faster, so its errors never make one fail: a file that cannot be read counts
    as empty, one that cannot be written is left unchanged, and both are logged.

    Args:
        medium: the file system of the file.
        path: the file.
    """

    def __init__(self, medium: Medium, path: str = ".core/durations.json") -> None:
        self._medium = medium
        self._path = path

    def load(self) -> dict[str, float]:
        """Seconds by name."""
        try:
            found = json.loads(self._medium.read_text(self._path))
            return {name: _seconds(value) for name, value in found.items()}
        except PathNotFoundError:
            return {}
        except (CoreInfraError, ValueError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("cannot read the durations of earlier runs: %s: %s", self._path, error)
            return {}

    def record(self, result: RunAllResult) -> None:
        """Store the durations of what passed; a failure may have come early.

        Each new duration moves the stored one half of the way, so that one run on a busy host does
        not reverse the order.
        """
        ran = [one for one in result.results if one.passed and not one.cached]
        new = {one.name: one.duration / one.attempts for one in ran}
        if not new:
            return
        known = self.load()
        for name, seconds in new.items():
            known[name] = (known.pop(name, seconds) + seconds) / 2  # popped: now it is the newest
        kept = dict(list(known.items())[-_MOST:])
        try:
            text = json.dumps({name: round(seconds, 6) for name, seconds in kept.items()}, indent=0)
            self._medium.write_text(self._path, text + "\n")
        except CoreInfraError as error:
            _log.warning("cannot store durations: %s", error)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a duration")
    return float(value)
