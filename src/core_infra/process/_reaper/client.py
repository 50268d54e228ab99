"""The client of the reaper, the small program that starts our children and reliably ends them.

Why a separate program, and not this process, is the children's parent and subreaper:

- ``PR_SET_CHILD_SUBREAPER`` in a test's process would change what ``wait`` means for everybody in
  it: orphans of other libraries' children would become ours, and we could not distinguish their
  zombies from ours without taking their exit codes.
- The reaper outlives this process by a moment, so it can end whole process trees even if this
  process is killed by SIGKILL. The parent-death signal alone reaches children only, and is tied to
  the *thread* that forked.
- It is small: a start costs the same whether this process uses 20 MiB or 20 GiB.

The protocol is described in ``csrc/reaper/reaper.h``.
"""

from __future__ import annotations

import array
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import READ, supervisor
from core_infra._unpatched import os, socket
from core_infra.errors import UnavailableError
from core_infra.process._errors import KILL_TIMEOUT, CannotKillError
from core_infra.process._reaper.program import start_reaper
from core_infra.process._reaper.protocol import Flag, Op, Reply, RequestSocket, read_reply, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.process._options import Environment

_STAGE_DIRECTORY = 1

# A tag, see csrc/reaper/reaper.h.
_OURS = 0xFFFFFF << 40
_DETACHED = 1 << 39
_GROUP_SHIFT = 24
GROUPS = 1 << 15
"""How many groups of programs there can be at once."""
_NUMBERS = 1 << _GROUP_SHIFT


class Selection(NamedTuple):
    """Some of the reaper's programs, with all that they started: masked tag equals value."""

    value: int
    mask: int


class StartRefusedError(OSError):
    """The error of the system for a start, and whether it was about the directory."""

    in_directory = False


class Reaper:
    """A running reaper; threads may share it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())
        fds = (theirs.fileno(), parent)
        try:
            self._popen = start_reaper(fds)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(parent)
        # It ends when this process does and is never waited for: no warning at interpreter exit.
        self._popen.returncode = 0
        self._identity = os.getresuid() + os.getresgid()
        self._base = 1 << 62 | self._popen.pid << 40
        self._numbers = itertools.count(1)
        self.lost = False
        self._requests = RequestSocket(ours)
        supervisor().watch(self._requests.fd, 0, lambda _: self.mark_lost())

    @property
    def pid(self) -> int:
        """The reaper's own process id."""
        return self._popen.pid

    def is_usable(self) -> bool:
        """Whether it runs, with the user and group that this process has now.

        After a change of these a new one is needed: programs must not get rights that were dropped.
        """
        return not self.lost and self._identity == os.getresuid() + os.getresgid()

    def new_tag(self, group: int, *, detached: bool = False) -> int:
        """Choose a tag, the reaper's name for a program that is to be started.

        Args:
            group: of :class:`~core_infra.process._reaper.registry.ProgramGroup`.
            detached: the program outlives this process.
        """
        while True:
            number = next(self._numbers)
            flag = _DETACHED if detached else 0
            tag = self._base | group << _GROUP_SHIFT | number % _NUMBERS | flag
            # Once numbers are reused, the earlier program of the same number may still run.
            if number < _NUMBERS or not self.members(self.tree(tag)):
                return tag

    def spawn(
        self,
        tag: int,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Environment,
        fds: Mapping[int, int],
        terminal: bool = False,
        report_start_at_once: bool = True,
    ) -> int:
        """Request the start of a program in a session of its own.

        Args:
            tag: from :meth:`new_tag`.
            argv: the program (looked up on the PATH in *env*) and its arguments.
            cwd: an absolute path.
            env: its whole environment.
            fds: maps the program's descriptors to ours, which may be closed at once. Without 0 it
                has an empty standard input.
            terminal: its standard input becomes its controlling terminal.
            report_start_at_once: if False, the start may be reported together with an end that
                comes soon after.

        Returns:
            A pipe that the caller closes, for
            :class:`~core_infra.process._reaper.protocol.ProgramReport`.

        Raises:
            UnavailableError: the reaper was killed.
        """
        targets = array.array("i", fds).tobytes()
        strings = os.fsencode("\0".join((cwd, *argv, "")))
        flags = (Flag.TERMINAL if terminal else 0) | (0 if report_start_at_once else Flag.COALESCE)
        try:
            return self._requests.send(
                Op.SPAWN,
                tag,
                flags=flags,
                counts=(len(argv), env.number),
                body=targets + strings + env.block,
                fds=fds.values(),
            )
        except ConnectionError as error:
            raise self.lost_error() from error

    def started_pid(self, reply: Reply) -> int:
        """The pid in the reply to a start; raises StartRefusedError if it was not started."""
        if reply.error:
            refused = StartRefusedError(reply.error, os.strerror(reply.error))
            refused.in_directory = reply.stage == _STAGE_DIRECTORY
            raise refused
        return reply.value

    def signal(self, tag: int, number: int, *, process_group: bool = False) -> int:
        """Send a signal to a program or its process group; returns an errno, 0 on success."""
        flags = Flag.PROCESS_GROUP if process_group else 0
        channel, (error, _, _) = self._ask(Op.SIGNAL, tag, flags=flags, number=number)
        os.close(channel)
        return error

    def kill(self, selection: Selection, then: Callable[[], None] = lambda: None) -> Latch:
        """Kill the selected programs and all that they started; does not wait.

        Args:
            selection: the programs.
            then: called on the supervisor's thread when none is left.

        Returns:
            Set when none is left.
        """
        gone = Latch()

        def finish() -> None:
            gone.set()
            then()

        try:
            channel, _ = self._ask(Op.KILL, selection.value, mask=selection.mask)
        except UnavailableError:  # the parent-death signal has ended them
            supervisor().post(finish)
            return gone

        def on_answer(_events: int) -> None:
            supervisor().unwatch(channel)
            os.close(channel)
            finish()

        supervisor().watch(channel, READ, on_answer)
        return gone

    def kill_and_wait(self, selection: Selection, killed: Latch | None = None) -> None:
        """Wait until the selected programs and all that they started have ended.

        Args:
            selection: the programs.
            killed: the result of :meth:`kill` for them; None calls it.

        Raises:
            CannotKillError: something could not be killed.
        """
        if not (killed or self.kill(selection)).wait(KILL_TIMEOUT):
            pids = self.members(selection)
            if pids:
                raise CannotKillError.of(pids)

    def members(self, selection: Selection) -> list[int]:
        """The pids of the selected programs and of all that they started."""
        channel, (_, _, count) = self._ask(Op.LIST, selection.value, mask=selection.mask)
        try:
            return [*array.array("i", receive(channel, count * 4))]
        finally:
            os.close(channel)

    def mark_lost(self) -> None:
        """Note that it was killed, which only others do; its programs have ended with it."""
        if self.lost:
            return
        self.lost = True
        supervisor().unwatch(self._requests.fd)
        self._requests.shut_down()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._popen.pid, 0)

    def lost_error(self) -> UnavailableError:
        """The error for a reaper that was killed; marks it as lost."""
        self.mark_lost()
        return UnavailableError(
            "the reaper of our processes is gone",
            why="it was killed by somebody else; the kernel ended its programs with it",
            todo="Start them again: that starts a new reaper.",
        )

    def disown(self) -> None:
        """In a forked child: the programs belong to the parent."""
        self.lost = True
        self._requests.close_after_fork()

    def tree(self, tag: int) -> Selection:
        """Select one program."""
        return Selection(tag, (1 << 64) - 1)

    def group(self, group: int) -> Selection:
        """Select all programs of a group but the detached."""
        mask = _OURS | _DETACHED | (GROUPS - 1) << _GROUP_SHIFT
        return Selection(self._base | group << _GROUP_SHIFT, mask)

    def _ask(self, op: Op, tag: int, **details: Any) -> tuple[int, Reply]:
        try:
            channel = self._requests.send(op, tag, **details)
        except ConnectionError as error:
            raise self.lost_error() from error
        try:
            return channel, self._reply(channel)
        except BaseException:
            os.close(channel)
            raise

    def _reply(self, channel: int) -> Reply:
        try:
            return read_reply(channel)
        except ConnectionError as error:
            raise self.lost_error() from error
