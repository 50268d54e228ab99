"""Times as callers give them."""

from __future__ import annotations

from typing import Any

from core_infra.errors import InvalidError


def check_seconds(name: str, value: Any) -> None:
    """Raise InvalidError unless *value*, which the caller knows by *name*, is a number, or None."""
    if value is not None and (not isinstance(value, int | float) or value != value):  # noqa: PLR0124 - NaN
        raise InvalidError(f"{name} is {value!r}", why="that is no number of seconds")
