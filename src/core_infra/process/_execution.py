"""One execution of a program: what we ask of the keeper about it, and what it tells."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from core_infra._eventloop.loop import READ
from core_infra._unpatched import os, select, signal, time
from core_infra.process._reaper.protocol import End, ProgramNews
from core_infra.process._reaper.registry import keeper
from core_infra.process._status import Usage
from core_infra.process._stdio import Stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._eventloop.latch import Latch
    from core_infra._eventloop.loop import Loop
    from core_infra.process._events import Stream
    from core_infra.process._options import Input, RunOptions
    from core_infra.process._reaper.client import Keeper


class Execution:
    """A program that the keeper starts, once, with all that it starts itself.

    Args:
        options: what it is run with.
        stdin: what it reads; from :meth:`RunOptions.input`.
        group: the keeper's group that it belongs to.
        loop: moves its input and output.
        wrote: is given its output, on the loop's thread; None discards it.

    Attributes:
        stdio: what it reads and writes.
        channel: can be read when there is something to :meth:`hear`, after :meth:`ask`; -1 if there
            will be nothing.
        began: when, on ``time.monotonic``.
        began_at: the same on ``time.time``.
        end: how it ended, once that is known to its life; None before that.
    """

    def __init__(
        self,
        options: RunOptions,
        stdin: Input,
        group: int,
        loop: Loop,
        wrote: Callable[[Stream, bytes], None] | None,
    ) -> None:
        self._options = options
        self._loop = loop
        self._keeper = keeper()
        # Known before it is used: who is interrupted meanwhile must be able to end it.
        self._tag = self._keeper.new_tag(group, detached=options.detach)
        self._news = ProgramNews()
        self._lost = False
        self._killed: Latch | None = None
        self._companions: Companions | None = None
        self.channel = -1
        self.began, self.began_at = time.monotonic(), time.time()
        self.end: End | None = None
        self.stdio = Stdio(loop, options, stdin, wrote)

    def ask(self, *, hurry: bool) -> None:
        """Have it started.

        Args:
            hurry: we are told as soon as it is; else, together with its end if that is soon.
        """
        options = self._options
        self.channel = self._keeper.spawn(
            self._tag,
            options.argv(),
            cwd=options.directory(),
            env=options.environment(),
            fds=self.stdio.theirs | {fd: fd for fd in options.pass_fds},
            terminal=options.pty,
            hurry=hurry,
        )
        # It starts on another processor: what can be done meanwhile takes no time.
        self.stdio.given()

    def hear(self) -> None:
        """Take what the keeper says, if it says anything."""
        try:
            self._news.read(self.channel)
        except ConnectionError:
            self._keeper.lose()
            self._lost = True

    def started(self) -> int | None:
        """Its pid; None: nothing was heard of that.

        Raises:
            StartRefusedError: the system does not start it.
            UnavailableError: the keeper was killed.
        """
        reply = self._news.start()
        if reply is not None:
            return self._keeper.started(reply)
        if self._lost:
            raise self._keeper.gone()
        return None

    def ended(self) -> End | None:
        """How it ended, or how the keeper did; None: nothing was heard of that."""
        if self._lost:
            return End(-signal.SIGKILL, time.monotonic(), 0.0, 0.0, 0)
        return self._news.end()

    def close_channel(self) -> None:
        """Listen no more; twice is no error."""
        self._loop.unwatch(self.channel)
        channel, self.channel = self.channel, -1
        if channel >= 0:
            os.close(channel)

    def close(self) -> None:
        """Close all: it was not started, or what it left behind is not listened to any more."""
        self.forget_companions()
        self.stdio.close()
        self.close_channel()

    def signal(self, number: int, *, group: bool = False) -> int:
        """Send a signal to the program, or to its process group.

        Returns:
            An errno; 0 if it was sent. ESRCH: the program has ended.
        """
        return self._keeper.signal(self._tag, number, group=group)

    def companions(self) -> Companions:
        """What it started in its process group, once it has been started itself."""
        if self._companions is None:
            reply = self._news.start()
            pid = reply.value if reply is not None else 0
            # No reference to us: a circle would keep the keeper's socket until it is collected.
            find = partial(_members, self._keeper, self._tag)
            self._companions = Companions(self._loop, pid, find)
        return self._companions

    def forget_companions(self) -> None:
        """Watch them no more."""
        companions, self._companions = self._companions, None
        if companions is not None:
            companions.close()

    def kill(self, then: Callable[[], None] = lambda: None) -> None:
        """Begin to end it and all that it started; *then* is called when nothing is left of it."""
        if self._killed is None or self._killed.is_set():
            self._killed = self._keeper.kill(self._keeper.tree(self._tag), then)

    def await_gone(self) -> None:
        """Wait until nothing is left of it, if it was killed.

        Raises:
            CannotKillError: something still runs.
        """
        if self._killed is not None:
            self._keeper.kill_and_wait(self._keeper.tree(self._tag), self._killed)

    def members(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return _members(self._keeper, self._tag)

    def usage(self) -> Usage | None:
        """What it has used; None while it runs."""
        end = self.end
        if end is None:
            return None
        return Usage(max(0.0, end.at - self.began), end.user, end.system, end.peak_memory)


def _members(keeper: Keeper, tag: int) -> list[int]:
    return [] if keeper.lost else keeper.members(keeper.tree(tag))


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
