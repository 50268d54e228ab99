"""How a command may be told to end."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Terminated(KeyboardInterrupt):
    """The command was told to end, and ends as after Ctrl-C: what it began is put in order.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise :class:`Terminated`, unless they are ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    changed = {}
    with contextlib.suppress(ValueError):  # not on the main thread: signals are not ours
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                changed[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, former in changed.items():
            signal.signal(number, former)
