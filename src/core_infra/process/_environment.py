"""The environment that programs get, encoded for the reaper."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core_infra._unpatched import os

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Environment(NamedTuple):
    r"""Encoded environment variables.

    Attributes:
        number: how many.
        block: ``NAME=value\0`` for each.
    """

    number: int
    block: bytes


def exactly(variables: Mapping[str, str | None]) -> Environment:
    """An environment of *variables* only; those that are None are left out."""
    return _encode(
        (os.fsencode(name), os.fsencode(value))
        for name, value in variables.items()
        if value is not None
    )


def inherited(changes: Mapping[str, str | None]) -> Environment:
    """Our environment as it is now, with *changes*; those that are None are removed."""
    return exactly({**os.environ, **changes}) if changes else _unchanged()


_last: tuple[dict[bytes, bytes], Environment] = ({}, Environment(0, b""))


def _unchanged() -> Environment:
    """Our environment, encoded again only if it has changed.

    Decoding and encoding each variable takes a tenth of the time of starting a program. os.environ
    keeps the encoded variables, and comparing these is quick; without them, all is encoded again.
    """
    global _last  # noqa: PLW0603 - a cache between calls
    data = getattr(os.environ, "_data", None)
    known, found = _last
    if data is None or data != known:
        known = dict(os.environb)
        found = _encode(known.items())
        _last = (known, found)
    return found


def _encode(variables: Iterable[tuple[bytes, bytes]]) -> Environment:
    strings = [b"%b=%b\0" % variable for variable in variables]
    return Environment(len(strings), b"".join(strings))
