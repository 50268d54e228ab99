"""The keeper of this process, and its groups of programs."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING

from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os
from core_infra.errors import UnavailableError
from core_infra.process._reaper.client import GROUPS, Keeper

if TYPE_CHECKING:
    from collections.abc import Sequence


_current: Keeper | None = None


def keeper() -> Keeper:
    """The keeper of this process, started at first use.

    Raises:
        UnavailableError: it was not compiled, or not for this machine.
    """
    found = _current
    if found is None or not found.is_usable():
        # There, nobody else is about it, and no signal can come between its start and our note.
        found = supervisor().call(_usable)
    return found


def _usable() -> Keeper:
    global _current  # noqa: PLW0603 - one per process is the point
    if _current is None or not _current.is_usable():
        _current = Keeper()
    return _current


_numbers = itertools.count(1)
_given_back: deque[int] = deque()


class Group:
    """A number for programs that can be ended together: nobody else's until it is given back.

    Raises:
        UnavailableError: all numbers are in use.
    """

    def __init__(self) -> None:
        self._number = _free_number()
        self._is_used = False
        self._give_back = weakref.finalize(self, _given_back.append, self._number)
        self._give_back.atexit = False

    def use(self) -> int:
        """The number, for a program that is to be started."""
        self._is_used = True
        return self._number

    def give_back(self) -> None:
        """Let another have the number: this group is over, and has no members any more."""
        self._give_back()

    def kill(self) -> None:
        """End all its programs but the detached, with all that they started.

        Raises:
            CannotKillError: something still runs.
        """
        found = self._keeper()
        if found is not None:
            found.kill_and_wait(found.all_of(self._number))

    def begin_to_kill(self) -> None:
        """Do as :meth:`kill` does, without waiting."""
        found = self._keeper()
        if found is not None:
            found.kill(found.all_of(self._number))

    def members(self) -> Sequence[int]:
        """The pids of all its programs but the detached, and of all that they started."""
        found = self._keeper()
        return [] if found is None else found.members(found.all_of(self._number))

    def _keeper(self) -> Keeper | None:
        """Who has its programs; None if there cannot be any."""
        found = _current
        is_ours = self._is_used and self._give_back.alive
        return found if is_ours and found is not None and not found.lost else None


def _free_number() -> int:
    number = next(_numbers)
    if number < GROUPS:
        return number
    for _ in range(len(_given_back)):
        with contextlib.suppress(IndexError):  # another thread has taken the last
            number = _given_back.popleft()
            if not _is_used(number):
                return number
            _given_back.append(number)  # its service was forgotten, not shut down
    raise UnavailableError(
        f"there are {GROUPS - 1} services of processes at once",
        why="there are no more numbers to tell their programs apart by",
        todo="Shut down those that are not needed any more, or share one.",
    )


def _is_used(number: int) -> bool:
    found = _current
    return found is not None and not found.lost and bool(found.members(found.all_of(number)))


def _forget() -> None:
    global _current  # noqa: PLW0603 - a forked child keeps nobody's children
    if _current is not None:
        _current.disown()
    _current = None


os.register_at_fork(after_in_child=_forget)
