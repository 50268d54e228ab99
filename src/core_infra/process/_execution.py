"""One execution of a program: the requests to the reaper about it, and the reaper's reports."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from core_infra._eventloop.loop import READ
from core_infra._unpatched import os, select, signal, time
from core_infra.process._reaper.protocol import End, ProgramReport
from core_infra.process._reaper.registry import reaper
from core_infra.process._status import Usage
from core_infra.process._stdio import Stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._eventloop.latch import Latch
    from core_infra._eventloop.loop import Loop
    from core_infra.process._events import Stream
    from core_infra.process._options import Input, RunOptions
    from core_infra.process._reaper.client import Reaper


class Execution:
    """A program that the reaper starts once, with all that it starts itself.

    Args:
        options: the program, and how to run it.
        stdin: its input; from :meth:`RunOptions.input`.
        group: the reaper's group that it belongs to.
        loop: transfers its input and output.
        on_output: receives its output on the loop's thread; None discards it.

    Attributes:
        stdio: its input and output.
        channel: readable when there is something for :meth:`read_report`, after
            :meth:`request_start`; -1 if nothing will come.
        began: when, on ``time.monotonic``.
        began_at: the same on ``time.time``.
        end: how it ended, once its lifecycle has processed that; None before.
    """

    def __init__(
        self,
        options: RunOptions,
        stdin: Input,
        group: int,
        loop: Loop,
        on_output: Callable[[Stream, bytes], None] | None,
    ) -> None:
        self._options = options
        self._loop = loop
        self._reaper = reaper()
        # Chosen before it is used: if we are interrupted, the program can still be killed by it.
        self._tag = self._reaper.new_tag(group, detached=options.detach)
        self._report = ProgramReport()
        self._lost = False
        self._killed: Latch | None = None
        self._process_group: ProcessGroup | None = None
        self.channel = -1
        self.began, self.began_at = time.monotonic(), time.time()
        self.end: End | None = None
        self.stdio = Stdio(loop, options, stdin, on_output)

    def request_start(self, *, report_at_once: bool) -> None:
        """Request the start.

        Args:
            report_at_once: report the start at once; else it may be reported with an early end.
        """
        options = self._options
        self.channel = self._reaper.spawn(
            self._tag,
            options.argv(),
            cwd=options.directory(),
            env=options.environment(),
            fds=self.stdio.child_fds | {fd: fd for fd in options.pass_fds},
            terminal=options.pty,
            report_start_at_once=report_at_once,
        )
        # The program starts on another processor: work that is done meanwhile costs no time.
        self.stdio.hand_over()

    def read_report(self) -> None:
        """Read what the reaper has reported, if anything."""
        try:
            self._report.read(self.channel)
        except ConnectionError:
            self._reaper.mark_lost()
            self._lost = True

    def started_pid(self) -> int | None:
        """Its pid; None if its start has not been reported.

        Raises:
            StartRefusedError: the system does not start it.
            UnavailableError: the reaper was killed.
        """
        reply = self._report.start()
        if reply is not None:
            return self._reaper.started_pid(reply)
        if self._lost:
            raise self._reaper.lost_error()
        return None

    def reported_end(self) -> End | None:
        """How it ended, perhaps with the reaper; None if its end has not been reported."""
        if self._lost:
            return End(-signal.SIGKILL, time.monotonic(), 0.0, 0.0, 0)
        return self._report.end()

    def close_channel(self) -> None:
        """Receive no more reports; may be called twice."""
        self._loop.unwatch(self.channel)
        channel, self.channel = self.channel, -1
        if channel >= 0:
            os.close(channel)

    def close(self) -> None:
        """Close everything: it was not started, or its remaining output is not read any more."""
        self.forget_process_group()
        self.stdio.close()
        self.close_channel()

    def signal(self, number: int, *, process_group: bool = False) -> int:
        """Send a signal to the program, or to its process group.

        Returns:
            An errno; 0 if it was sent. ESRCH: the program has ended.
        """
        return self._reaper.signal(self._tag, number, process_group=process_group)

    def process_group(self) -> ProcessGroup:
        """The other members of its process group, once it has been started itself."""
        if self._process_group is None:
            reply = self._report.start()
            pid = reply.value if reply is not None else 0
            # Without a reference to self: a cycle would keep descriptors until it is collected.
            find = partial(_members, self._reaper, self._tag)
            self._process_group = ProcessGroup(self._loop, pid, find)
        return self._process_group

    def forget_process_group(self) -> None:
        """Stop watching them."""
        members, self._process_group = self._process_group, None
        if members is not None:
            members.close()

    def kill(self, then: Callable[[], None] = lambda: None) -> None:
        """Start to kill it and all that it started; *then* is called when nothing of it is left."""
        if self._killed is None or self._killed.is_set():
            self._killed = self._reaper.kill(self._reaper.tree(self._tag), then)

    def await_gone(self) -> None:
        """Wait until nothing of it is left, if it was killed.

        Raises:
            CannotKillError: something still runs.
        """
        if self._killed is not None:
            self._reaper.kill_and_wait(self._reaper.tree(self._tag), self._killed)

    def members(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return _members(self._reaper, self._tag)

    def usage(self) -> Usage | None:
        """The resources that it used; None while it runs."""
        end = self.end
        if end is None:
            return None
        return Usage(max(0.0, end.at - self.began), end.user, end.system, end.peak_memory)


def _members(reaper: Reaper, tag: int) -> list[int]:
    return [] if reaper.lost else reaper.members(reaper.tree(tag))


class ProcessGroup:
    """The other members of a program's process group, such as programs that a shell has started.

    All methods are called on the loop's thread.

    Args:
        loop: watches for their ends.
        group: the group's number: the program's pid.
        find: returns the pids of all that the program has started.
    """

    def __init__(self, loop: Loop, group: int, find: Callable[[], Sequence[int]]) -> None:
        self._loop = loop
        self._group = group
        self._find = find
        self._pidfds: set[int] = set()

    def watch(self, then: Callable[[], None]) -> bool:
        """Whether there are any; if so, call *then* once all current members have ended."""
        if not self._pidfds:
            self._pidfds = set(self._open())
            for fd in self._pidfds:
                self._loop.watch(fd, READ, partial(self._on_end, fd, then))
        return bool(self._pidfds)

    def signal(self, number: int) -> None:
        """Send all of them a signal, when the program itself has ended."""
        for fd in self._open():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(fd, number)
            os.close(fd)

    def close(self) -> None:
        """Stop watching."""
        while self._pidfds:
            self._close(self._pidfds.pop())

    def _on_end(self, fd: int, then: Callable[[], None], _events: int) -> None:
        self._pidfds.discard(fd)
        self._close(fd)
        if not self._pidfds:
            then()

    def _close(self, fd: int) -> None:
        self._loop.unwatch(fd)
        os.close(fd)

    def _open(self) -> list[int]:
        """A pidfd for each, so that a reused pid cannot be hit."""
        fds = []
        for pid in self._find():
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                fds.append(fd)
                if os.getpgid(pid) != self._group or _has_ended(fd):
                    os.close(fds.pop())
        return fds


def _has_ended(pidfd: int) -> bool:
    """Also true of a zombie, which may never be waited for."""
    poll = select.poll()
    poll.register(pidfd, READ)
    return bool(poll.poll(0))
