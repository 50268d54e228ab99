"""The environment that programs inherit from us."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_last: tuple[dict[bytes, bytes], list[bytes]] = ({}, [])


def inherited(changes: Mapping[str, str]) -> list[bytes]:
    """Our environment as it is now, with *changes*, as ``NAME=value``."""
    if changes:
        env = {**os.environ, **changes}
        return [os.fsencode(f"{name}={value}") for name, value in env.items()]
    return _unchanged()


def _unchanged() -> list[bytes]:
    """Our environment, encoded anew only when it has changed.

    To decode and encode each variable costs a tenth of what it takes to start a program. os.environ
    keeps what it was made of, and comparing that is quick; where it does not, all is done anew.
    """
    global _last  # noqa: PLW0603 - remembered from call to call
    data = getattr(os.environ, "_data", None)
    known, encoded = _last
    if data is None or data != known:
        known = dict(os.environb)
        encoded = [name + b"=" + value for name, value in known.items()]
        _last = (known, encoded)
    return encoded
