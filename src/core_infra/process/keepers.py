"""The keeper of this process, and its groups of programs."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from core_infra.process.keeper import GROUPS, Keeper
from core_infra.process.supervisor import supervisor

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


_groups = itertools.count(1)


def new_group() -> int:
    """A number for programs that can be ended together."""
    return next(_groups) % GROUPS


def kill_group(group: int) -> None:
    """End all programs of a group but the detached, with all that they started.

    Raises:
        TimeoutExpiredError: something could not be killed.
    """
    found = _current
    if found is not None and not found.lost:
        found.kill_and_wait(found.all_of(group))


def begin_to_kill_group(group: int) -> None:
    """Do as :func:`kill_group` does, without waiting."""
    found = _current
    if found is not None and not found.lost:
        found.kill(found.all_of(group))


def group_members(group: int) -> Sequence[int]:
    """The pids of all programs of a group but the detached, and of all that they started."""
    found = _current
    return [] if found is None or found.lost else found.members(found.all_of(group))


def _forget() -> None:
    global _current  # noqa: PLW0603 - a forked child keeps nobody's children
    if _current is not None:
        _current.disown()
    _current = None


os.register_at_fork(after_in_child=_forget)
