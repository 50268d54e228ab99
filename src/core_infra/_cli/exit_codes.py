"""How the command ``core-infra`` ends: exit codes, and signals that end it in order."""

from __future__ import annotations

import contextlib
import errno
import signal
from typing import TYPE_CHECKING

from core_infra import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a disk, for which a command ends with UNAVAILABLE."""
UNAVAILABLE = 9
SIGNALLED = 128
"""A command that a signal ends has this code plus the signal's number, as in a shell."""
INTERRUPTED = SIGNALLED + signal.SIGINT
EXIT_CODES: tuple[tuple[type[errors.CoreInfraError], int], ...] = (
    (errors.NotFoundError, 3),
    (errors.AlreadyExistsError, 4),
    (errors.InvalidError, 5),
    (errors.WrongStateError, 6),
    (errors.TimeoutExpiredError, 7),
    (errors.CommandFailedError, 8),
    (errors.UnavailableError, UNAVAILABLE),
)
"""The exit code of each kind of error; any other error is 1, wrong usage is 2."""


def exit_code(error: errors.CoreInfraError) -> int:
    """The exit code for the kind of an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


class Terminated(KeyboardInterrupt):
    """A signal ends the command; like Ctrl-C, it lets the command clean up.

    Args:
        number: the number of the signal.
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
    with contextlib.suppress(ValueError):  # not on the main thread
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                changed[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, former in changed.items():
            signal.signal(number, former)
