"""What a process's loop is to do later, or again if the system lacks something just now."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from core_infra.process.supervisor import Timer, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.loop import Loop

PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY})
"""What the system lacks at one moment, and may have at the next."""
_PATIENCE = 0.1
"""Seconds until what failed for that is tried again."""


class Jobs:
    """Jobs of one process.

    Args:
        loop: does them.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: list[Timer] = []

    def soon(self, job: Callable[[], None]) -> None:
        """Do it soon; from any thread."""
        self._loop.post(lambda: self._try(job))

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """Do it in so many seconds, unless :meth:`cancel` comes before."""
        self._timers.append(supervisor().after(seconds, lambda: self.soon(job)))

    def cancel(self) -> None:
        """Forget what was to be done later."""
        while self._timers:
            self._timers.pop().cancel()

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self.later(_PATIENCE, job)
