"""Timeouts on this host: one factor scales every default.

A runner without KVM is about ten times slower than a laptop. The library's default timeouts are for
a host whose guests boot in :data:`NOMINAL_BOOT` seconds; they are multiplied by how much slower
this host has booted guests.
"""

from __future__ import annotations

from core_infra._unpatched import os
from core_infra.errors import InvalidError

NOMINAL_BOOT = 0.5
"""Seconds in which a guest boots on the host that the default timeouts are for."""

VARIABLE = "CORE_INFRA_TIMEOUT_FACTOR"
_UNMEASURED = 10.0
_LONGEST = 1e9  # a longer time does not fit the system's clocks
_measured: float | None = None


def scaled(seconds: float) -> float:
    """A default timeout of *seconds*, as long as this host needs it.

    Raises:
        InvalidError: ``CORE_INFRA_TIMEOUT_FACTOR`` is set and is not a positive number.
    """
    return seconds * factor()


def limit(given: object, default: float) -> float:
    """Seconds to wait: *given*, else the default, scaled.

    Raises:
        InvalidError: *given* is not a time.
    """
    if given is None:
        return scaled(default)
    # Not less than: so that NaN is caught, too.
    if not isinstance(given, int | float) or isinstance(given, bool) or not given >= 0:
        raise InvalidError(
            f"a timeout of {given!r} is not possible", todo="Give a number of seconds, 0 or more."
        )
    return min(given, _LONGEST)


def factor() -> float:
    """The factor: from the environment, else from the boots seen so far, else ten."""
    text = os.environ.get(VARIABLE, "")
    if text:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise InvalidError(
                f"{VARIABLE}={text!r} is not a positive number",
                todo="Set it to a factor such as 3, or unset it.",
            )
        return value
    return _UNMEASURED if _measured is None else _measured


def record_boot(seconds: float) -> None:
    """Remember how long a boot took; the slowest one of this process counts."""
    global _measured  # noqa: PLW0603 - a property of the host, shared by all machines
    _measured = max(1.0, seconds / NOMINAL_BOOT, _measured or 0.0)
