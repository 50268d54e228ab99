"""The environment that programs get."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core_infra._unpatched import os

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Environment(NamedTuple):
    r"""Variables as a program gets them.

    Attributes:
        number: how many.
        block: ``NAME=value\0`` for each.
    """

    number: int
    block: bytes


def given(variables: Mapping[str, str | None]) -> Environment:
    """These variables and no others; those that are None are left out."""
    return _environment(
        (os.fsencode(name), os.fsencode(value))
        for name, value in variables.items()
        if value is not None
    )


def inherited(changes: Mapping[str, str | None]) -> Environment:
    """Our environment as it is now, with *changes*; those that are None are taken away."""
    return given({**os.environ, **changes}) if changes else _unchanged()


_last: tuple[dict[bytes, bytes], Environment] = ({}, Environment(0, b""))


def _unchanged() -> Environment:
    """Our environment, encoded anew only when it has changed.

    To decode and encode each variable costs a tenth of what it takes to start a program. os.environ
    keeps what it was made of, and comparing that is quick; where it does not, all is done anew.
    """
    global _last  # noqa: PLW0603 - remembered from call to call
    data = getattr(os.environ, "_data", None)
    known, found = _last
    if data is None or data != known:
        known = dict(os.environb)
        found = _environment(known.items())
        _last = (known, found)
    return found


def _environment(variables: Iterable[tuple[bytes, bytes]]) -> Environment:
    strings = [b"%b=%b\0" % variable for variable in variables]
    return Environment(len(strings), b"".join(strings))
