"""A fault of a network, of a machine, or of several: it lasts until it is healed."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._unpatched import time
from core_infra.errors import WrongStateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class FaultOwner(Protocol):
    """What has faults, and ends them."""

    def has(self, fault: Fault) -> bool:
        """Whether a fault is active."""
        ...

    def end(self, fault: Fault) -> None:
        """End a fault, if it is active."""


class Fault:
    """Something that fails on request, from its start until :meth:`heal`, or the end of its block.

    Attributes:
        description: what it does, for reports.
        began: when, on ``time.monotonic``.
        ended: when it ended, on the same clock; None while it is active.
        failed_in: whether an error left its ``with`` block, so that it was active until then.
    """

    def __init__(self, description: str, owner: FaultOwner) -> None:
        self.description = description
        self.began = time.monotonic()
        self.ended: float | None = None
        self.failed_in = False
        self._owner = owner

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self._owner.has(self)

    def heal(self) -> None:
        """End it; a second call does nothing."""
        self._owner.end(self)

    def finish(self) -> None:
        """It has ended now, which its owner reports; a second call changes nothing."""
        if self.ended is None:
            self.ended = time.monotonic()

    def __enter__(self) -> Self:
        if self.ended is not None:
            raise WrongStateError(
                f"a fault has ended before its block: {self.description}",
                why="nothing would be broken within it",
                todo="Start a new one in the with statement.",
                needed="active",
                found="ended",
            )
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.failed_in = error is not None and self.ended is None
        end_block(self.heal, error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description}>"


def end_block(end: Callable[[], None], error: BaseException | None) -> None:
    """Call *end* at the end of a ``with`` block; its error does not hide that of the block."""
    if error is None:
        end()
        return
    try:
        end()
    except Exception as second:  # noqa: BLE001 - it is shown with the first one
        error.add_note("".join(["and then: ", *traceback.format_exception_only(second)]).rstrip())
