"""Checks the arguments of every medium, so that a wrong type is one clear error."""

from __future__ import annotations

import os
from typing import Any

from core_infra.errors import InvalidError
from core_infra.medium._paths import clean

_MODE_MAX = 0o7777


def check_mode(mode: Any) -> None:
    """Raise InvalidError unless *mode* is a number of permission bits, or None."""
    if mode is None or (type(mode) is int and 0 <= mode <= _MODE_MAX):
        return
    is_number = isinstance(mode, int) and not isinstance(mode, bool)  # such as a member of an enum
    if not (is_number and 0 <= mode <= _MODE_MAX):
        raise InvalidError(
            f"cannot use the mode {mode!r}",
            why="it must be a number of permission bits",
            todo="Write it in octal: mode=0o644.",
        )


def check_data(data: Any) -> None:
    """Raise InvalidError unless *data* is bytes, or an object that holds bytes."""
    if isinstance(data, bytes):
        return
    try:
        memoryview(data).release()
    except TypeError:
        raise InvalidError(
            f"cannot write a value of type {type(data).__name__!r}",
            why="it must be bytes",
            todo="Use write_text for text." if isinstance(data, str) else "",
        ) from None


def check_text(text: Any) -> None:
    """Raise InvalidError unless *text* is a string."""
    if not isinstance(text, str):
        raise InvalidError(
            f"cannot write a value of type {type(text).__name__!r} as text",
            why="it must be a string",
            todo="Use write_bytes for bytes." if isinstance(text, bytes | bytearray) else "",
        )


def check_rate(rate: Any) -> None:
    """Raise InvalidError unless *rate* is a probability."""
    if not (isinstance(rate, int | float) and 0 <= rate <= 1):
        raise InvalidError(f"rate is {rate!r}", why="it must be from 0 to 1")


def check_methods(name: str, value: Any, kind: str, *methods: str) -> None:
    """Raise InvalidError unless *value*, the argument *name*, is an object with some methods."""
    if isinstance(value, type) or not all(callable(getattr(value, one, None)) for one in methods):
        raise InvalidError(f"{name} is {value!r}", why=f"it must be {kind}")


def check_medium(name: str, value: Any) -> None:
    """Raise InvalidError unless *value*, the argument *name*, is a medium."""
    check_methods(name, value, "a medium", "stat", "list", "open", "create", "ensure_dir")


def root_path(root: str | os.PathLike[str]) -> str:
    """Return the absolute path of a root.

    Raises:
        InvalidPathError: it is malformed.
    """
    return os.path.abspath(clean(root))  # noqa: PTH100 - paths are strings here
