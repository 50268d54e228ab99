"""The reaper of this process, and groups of its programs."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING

from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os
from core_infra.errors import UnavailableError
from core_infra.process._reaper.client import GROUPS, Reaper

if TYPE_CHECKING:
    from collections.abc import Sequence


_current: Reaper | None = None


def reaper() -> Reaper:
    """The reaper of this process, started at first use.

    Raises:
        UnavailableError: it was not compiled, or not for this machine.
    """
    found = _current
    if found is None or not found.is_usable():
        # On the supervisor's thread no other start and no signal can interfere.
        found = supervisor().call(_usable)
    return found


def _usable() -> Reaper:
    global _current  # noqa: PLW0603 - one per process is the point
    if _current is None or not _current.is_usable():
        _current = Reaper()
    return _current


_numbers = itertools.count(1)
_released: deque[int] = deque()


class ProgramGroup:
    """A number for programs that can be killed together; unique until it is released.

    Raises:
        UnavailableError: all numbers are in use.
    """

    def __init__(self) -> None:
        self._number = _free_number()
        self._is_used = False
        self._release = weakref.finalize(self, _released.append, self._number)
        self._release.atexit = False

    def use(self) -> int:
        """The number, for a program that is to be started."""
        self._is_used = True
        return self._number

    def release(self) -> None:
        """Make the number available again; the group must have no members any more."""
        self._release()

    def kill(self) -> None:
        """Kill all its programs but the detached, with all that they started.

        Raises:
            CannotKillError: something still runs.
        """
        found = self._reaper()
        if found is not None:
            found.kill_and_wait(found.group(self._number))

    def start_killing(self) -> None:
        """Do as :meth:`kill` does, without waiting."""
        found = self._reaper()
        if found is not None:
            found.kill(found.group(self._number))

    def members(self) -> Sequence[int]:
        """The pids of all its programs but the detached, and of all that they started."""
        found = self._reaper()
        return [] if found is None else found.members(found.group(self._number))

    def _reaper(self) -> Reaper | None:
        """The reaper of its programs; None if there cannot be any."""
        found = _current
        is_ours = self._is_used and self._release.alive
        return found if is_ours and found is not None and not found.lost else None


def _free_number() -> int:
    number = next(_numbers)
    if number < GROUPS:
        return number
    for _ in range(len(_released)):
        with contextlib.suppress(IndexError):  # another thread has taken the last
            number = _released.popleft()
            if not _is_used(number):
                return number
            _released.append(number)  # its service was dropped without being shut down
    raise UnavailableError(
        f"there are already {GROUPS - 1} services of processes",
        why="no more numbers are free to identify their programs",
        todo="Shut down those that are not needed any more, or share one.",
    )


def _is_used(number: int) -> bool:
    found = _current
    return found is not None and not found.lost and bool(found.members(found.group(number)))


def _reset_after_fork() -> None:
    global _current  # noqa: PLW0603 - one per process is the point
    if _current is not None:
        _current.disown()
    _current = None


os.register_at_fork(after_in_child=_reset_after_fork)
