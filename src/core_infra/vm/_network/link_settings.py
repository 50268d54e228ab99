"""What happens to the frames from one machine to another."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Self

from core_infra.errors import InvalidError

_ALWAYS = (1 << 32) - 1
_LONGEST = 3600.0
_UNITS = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3, "bit": 1}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_FASTEST = 10**15


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What happens to frames from one machine to another.

    Attributes:
        delay: seconds.
        jitter: seconds that the delay varies, up and down.
        loss: the share of frames that are lost, 0 to 1.
        rate: bits in a second; 0: no limit.
        duplicate: the share that arrives twice.
        reorder: the share that the next frame overtakes.
        corrupt: the share in which a bit is flipped.
        seed: decides which frames these are.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: int = 0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    seed: int = 0

    def checked(self) -> Self:
        """The same settings.

        Raises:
            InvalidError: a value is not possible.
        """
        for names, most, meaning in (
            (("delay", "jitter"), _LONGEST, "a number of seconds, from 0 to 3600"),
            (("loss", "duplicate", "reorder", "corrupt"), 1, "a share of the frames, from 0 to 1"),
        ):
            for name in names:
                value: object = getattr(self, name)
                if isinstance(value, int | float) and 0 <= value <= most and value is not True:
                    continue
                raise InvalidError(f"cannot use {name}={value!r}", why=f"it is {meaning}")
        return self

    def requested(self) -> tuple[int, ...]:
        """The fields of a request to the switch."""
        shares = (self.loss, self.duplicate, self.reorder, self.corrupt)
        return (
            round(self.delay * 1e9),
            round(self.jitter * 1e9),
            self.rate,
            self.seed,
            *(min(round(share * (1 << 32)), _ALWAYS) for share in shares),
        )

    def __str__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self)[:-1])
        shown = ((name, _shown(value) if name == "rate" else value) for name, value in values)
        return ", ".join(f"{name}={value}" for name, value in shown if value)


def bits_per_second(rate: str | float | None) -> int:
    """A rate as a number of bits in a second; 0: no limit.

    Raises:
        InvalidError: it is not a rate.
    """
    if rate is None:
        return 0
    found = _RATE.fullmatch(str(rate).lower())
    unit = _UNITS.get((found[2] or "bit") if found else "")
    bits = float(found[1]) * unit if found and unit else 0
    if not 1 <= bits <= _FASTEST:
        raise InvalidError(
            f"cannot use rate={rate!r}",
            why="it is a number of bits in a second",
            todo=f"Use a unit of {', '.join(reversed(_UNITS))}, such as 1.5mbit.",
        )
    return int(bits)


def _shown(rate: int) -> str:
    unit = next((unit for unit, bits in _UNITS.items() if rate >= bits), "bit")
    return f"{rate / _UNITS[unit]:g}{unit}" if rate else ""
