"""What a program has started in its own process group, and that may outlive it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from core_infra.process.loop import READ
from core_infra.process.real import os, select, signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.process.loop import Loop


class Companions:
    """The other members of a program's process group, such as what a shell has started.

    Args:
        loop: hears of their ends; all methods are called on its thread.
        group: the group's number: the program's pid.
        find: the pids of all that the program has started.
    """

    def __init__(self, loop: Loop, group: int, find: Callable[[], Sequence[int]]) -> None:
        self._loop = loop
        self._group = group
        self._find = find
        self._pidfds: set[int] = set()

    def watch(self, then: Callable[[], None]) -> bool:
        """Whether there are any; then *then* is called once all that there are now have ended."""
        if not self._pidfds:
            self._pidfds = set(self._open())
            for fd in self._pidfds:
                self._loop.watch(fd, READ, partial(self._ended, fd, then))
        return bool(self._pidfds)

    def signal(self, number: int) -> None:
        """Send all of them a signal, where the program itself has ended."""
        for fd in self._open():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(fd, number)
            os.close(fd)

    def close(self) -> None:
        """Watch no more."""
        while self._pidfds:
            self._close(self._pidfds.pop())

    def _ended(self, fd: int, then: Callable[[], None], _events: int) -> None:
        if fd not in self._pidfds:
            return  # a false alarm
        self._pidfds.discard(fd)
        self._close(fd)
        if not self._pidfds:
            then()

    def _close(self, fd: int) -> None:
        self._loop.unwatch(fd)
        os.close(fd)

    def _open(self) -> list[int]:
        """A pidfd for each, so that a number that is used anew cannot be meant."""
        fds = []
        for pid in self._find():
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                fds.append(fd)
                if os.getpgid(pid) != self._group or _has_ended(fd):
                    os.close(fds.pop())
        return fds


def _has_ended(pidfd: int) -> bool:
    """Also of a zombie, which nobody may ever wait for."""
    poll = select.poll()
    poll.register(pidfd, READ)
    return bool(poll.poll(0))
