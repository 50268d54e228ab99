"""Checks of single values: numbers, seconds, signals, commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core_infra._unpatched import os, signal
from core_infra.errors import InvalidError

_SIGNALS = frozenset(signal.valid_signals())


_MAX_SIZE = 0xFFFF


def is_whole(value: Any) -> bool:
    """Whether *value* is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether *value* is a number; True, False and NaN are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def is_command(value: Any) -> bool:
    """Whether *value* is a program and its arguments, as a list."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and bool(value)
        and all(isinstance(word, str) or is_path(word) for word in value)
    )


def is_signal(value: Any) -> bool:
    """Whether *value* is a signal's number."""
    return is_whole(value) and value in _SIGNALS


def check_signal(number: Any) -> None:
    """Raise InvalidError unless *number* is a signal's number."""
    if not is_signal(number):
        raise InvalidError(f"there is no signal {number!r}")


def is_size(value: Any) -> bool:
    """Whether *value* is a possible number of rows and columns of a terminal."""
    return (
        isinstance(value, tuple | list)
        and len(value) == len(("rows", "columns"))
        and all(is_whole(number) and 1 <= number <= _MAX_SIZE for number in value)
    )


def is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)


def check_seconds(name: str, value: Any, *, optional: bool = True) -> None:
    """Raise InvalidError unless *value*, the argument *name* of a caller, is a number of seconds.

    Args:
        name: the argument's name.
        value: a negative number is like 0, as what is left until a deadline may be negative.
        optional: it may be None.
    """
    if not (is_number(value) or (optional and value is None)):
        raise InvalidError(f"{name} is {value!r}", why="it must be a number of seconds")
