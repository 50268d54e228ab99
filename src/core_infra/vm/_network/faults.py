"""Faults of a network: what they do, and until when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from core_infra.errors import InvalidError
from core_infra.vm._network.switch import LinkSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.vm._network.frame import Frame

_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class Fault:
    """A fault of a network, from its start until :meth:`heal`, or the end of its ``with`` block.

    Attributes:
        description: what it does, for reports.
    """

    def __init__(
        self,
        description: str,
        end: Callable[[Fault], None],
        *,
        cuts: Callable[[str, str], bool] = lambda _source, _target: False,
        links: Mapping[tuple[str, str], LinkSettings] | None = None,
        drops: Callable[[Frame], object] | None = None,
    ) -> None:
        self.description = description
        self.cuts = cuts
        self.links = links or {}
        self.drops = drops
        self.error: BaseException | None = None
        self._end = end

    def heal(self) -> None:
        """End it; a second call does nothing.

        Raises:
            Exception: what the function of :meth:`Network.drop` has raised.
        """
        self._end(self)
        error, self.error = self.error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()

    def __repr__(self) -> str:
        return f"<Fault {self.description}>"


def link_settings(
    *,
    delay: float,
    jitter: float,
    loss: float,
    rate: str | int | None,
    duplicate: float,
    reorder: float,
    corrupt: float,
) -> LinkSettings:
    """The settings of a link, checked.

    Raises:
        InvalidError: a value is not possible.
    """
    times: dict[str, object] = {"delay": delay, "jitter": jitter}
    for name, seconds in times.items():
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:  # noqa: PLR2004 - an hour
            raise InvalidError(
                f"cannot use {name}={seconds!r}", why="it is a number of seconds, from 0 to 3600"
            )
    shares: dict[str, object] = {
        "loss": loss,
        "duplicate": duplicate,
        "reorder": reorder,
        "corrupt": corrupt,
    }
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InvalidError(
                f"cannot use {name}={share!r}", why="it is a share of the frames, from 0 to 1"
            )
    return LinkSettings(delay, jitter, bits_per_second(rate), loss, duplicate, reorder, corrupt)


def bits_per_second(rate: str | int | None) -> int:
    """A rate as a number of bits in a second; 0: no limit.

    Raises:
        InvalidError: it is not a rate.
    """
    if rate is None:
        return 0
    found = _RATE.fullmatch(str(rate).lower())
    unit = _UNITS.get((found[2] or "bit") if found else "")
    bits = int(float(found[1]) * unit) if found and unit else 0
    if bits < 1:
        raise InvalidError(
            f"cannot use rate={rate!r}",
            why="it is a number of bits in a second",
            todo=f"Use a unit of {', '.join(_UNITS)}, such as 1.5mbit.",
        )
    return bits


def description(verb: str, names: str, settings: Mapping[str, object]) -> str:
    """What a link's fault does, such as ``link a - b: delay=0.1``."""
    given = ", ".join(f"{name}={value}" for name, value in settings.items() if value)
    return f"{verb} {names}: {given}" if given else f"{verb} {names}"
