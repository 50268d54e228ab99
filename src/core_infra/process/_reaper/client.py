"""Our side of the keeper, the small program that starts our children and ends them for sure.

Why a program of its own, and not this process, is the children's parent and subreaper:

- ``PR_SET_CHILD_SUBREAPER`` in a test's process changes what ``wait`` means for everybody in it:
  orphans of other libraries' children would become ours, and we could not tell a zombie of theirs
  from one of ours without stealing its exit code.
- It outlives us by a moment, so it can end whole trees even if we are killed with SIGKILL. The
  parent-death signal alone reaches children only, and is tied to the *thread* that forked.
- It is small: a start costs the same whether we have 20 MiB or 20 GiB.

Its protocol is in ``csrc/reaper/reaper.h``; :mod:`core_infra.process._reaper.registry` has the one
of this process.
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
from core_infra.process._reaper.program import start_keeper
from core_infra.process._reaper.protocol import Flag, Op, Reply, Wire, read_reply, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.process._environment import Environment

_STAGE_DIRECTORY = 1

_OURS = 0xFFFFFF << 40
_DETACHED = 1 << 39
_GROUP_SHIFT = 24
GROUPS = 1 << 15
"""How many groups of programs there can be at once."""
_NUMBERS = 1 << _GROUP_SHIFT


class Selection(NamedTuple):
    """Some of the keeper's programs, with all that they started: those with this value, masked."""

    value: int
    mask: int


class StartRefusedError(OSError):
    """What the system answered, and whether it was about the directory."""

    in_directory = False


class Keeper:
    """The program, and what it does for us; threads may share it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())
        fds = (theirs.fileno(), parent)
        try:
            self._popen = start_keeper(fds)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(parent)
        # It ends when we do, and is not to be waited for: no warning at the interpreter's end.
        self._popen.returncode = 0
        self._identity = os.getresuid() + os.getresgid()
        self._base = 1 << 62 | self._popen.pid << 40
        self._numbers = itertools.count(1)
        self.lost = False
        self._wire = Wire(ours)
        supervisor().watch(self._wire.fd, 0, lambda _: self.lose())

    @property
    def pid(self) -> int:
        """The keeper's own process id."""
        return self._popen.pid

    def is_usable(self) -> bool:
        """Whether it runs, with the rights that we have now.

        Who changes his own gets a new one: its programs must not keep rights that he gave up.
        """
        return not self.lost and self._identity == os.getresuid() + os.getresgid()

    def new_tag(self, group: int, *, detached: bool = False) -> int:
        """The keeper's name for a program that is to be started.

        Args:
            group: from :func:`~core_infra.process._reaper.registry.new_group`.
            detached: it outlives us.
        """
        while True:
            number = next(self._numbers)
            flag = _DETACHED if detached else 0
            tag = self._base | group << _GROUP_SHIFT | number % _NUMBERS | flag
            # From the second round on, what had the number may still run.
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
        hurry: bool = True,
    ) -> int:
        """Ask for a program in a session of its own.

        Args:
            tag: from :meth:`new_tag`.
            argv: the program (looked up on the PATH in *env*) and its arguments.
            cwd: an absolute path.
            env: its whole environment.
            fds: from the numbers that it gets to our descriptors, which may be closed at once.
                Without 0, there is nothing to read.
            terminal: its standard input becomes its controlling terminal.
            hurry: we are told of its start at once; else, with its end if that is soon.

        Returns:
            A pipe that the caller closes, with
            :class:`~core_infra.process._reaper.protocol.ProgramNews`.

        Raises:
            UnavailableError: the keeper was killed.
        """
        targets = array.array("i", fds).tobytes()
        strings = os.fsencode("\0".join((cwd, *argv, "")))
        flags = (Flag.TERMINAL if terminal else 0) | (0 if hurry else Flag.UNHURRIED)
        try:
            return self._wire.ask(
                Op.SPAWN,
                tag,
                flags=flags,
                counts=(len(argv), env.number),
                body=targets + strings + env.block,
                fds=fds.values(),
            )
        except ConnectionError as error:
            raise self.gone() from error

    def started(self, reply: Reply) -> int:
        """The pid of a program that was asked for; StartRefusedError if it was not started."""
        if reply.error:
            refused = StartRefusedError(reply.error, os.strerror(reply.error))
            refused.in_directory = reply.stage == _STAGE_DIRECTORY
            raise refused
        return reply.value

    def signal(self, tag: int, number: int, *, group: bool = False) -> int:
        """Send a signal to a program or its process group; an errno, 0 if it was sent."""
        flags = Flag.GROUP if group else 0
        channel, (error, _, _) = self._ask(Op.SIGNAL, tag, flags=flags, number=number)
        os.close(channel)
        return error

    def kill(self, selection: Selection, then: Callable[[], None] = lambda: None) -> Latch:
        """End the selected programs and all that they started.

        Args:
            selection: which.
            then: called on the supervisor's thread when none is left.

        Returns:
            Set when none is left.
        """
        gone = Latch()

        def tell() -> None:
            gone.set()
            then()

        try:
            channel, _ = self._ask(Op.KILL, selection.value, mask=selection.mask)
        except UnavailableError:  # the parent-death signal has ended them
            supervisor().post(tell)
            return gone

        def hear(_events: int) -> None:
            supervisor().unwatch(channel)
            os.close(channel)
            tell()

        supervisor().watch(channel, READ, hear)
        return gone

    def kill_and_wait(self, selection: Selection, killed: Latch | None = None) -> None:
        """Wait until the selected programs and all that they started are ended.

        Args:
            selection: which.
            killed: what :meth:`kill` has returned for them; None calls it.

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

    def lose(self) -> None:
        """It has ended, which nobody but a stranger does: so have its programs."""
        if self.lost:
            return
        self.lost = True
        supervisor().unwatch(self._wire.fd)
        self._wire.end()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._popen.pid, 0)

    def gone(self) -> UnavailableError:
        """Somebody has killed it: say so."""
        self.lose()
        return UnavailableError(
            "the keeper of our processes is gone",
            why="somebody has killed it; the kernel ended its programs with it",
            todo="Start them again: they get a new one.",
        )

    def disown(self) -> None:
        """In a forked child: our parent's programs are not ours to speak of."""
        self.lost = True
        self._wire.disown()

    def tree(self, tag: int) -> Selection:
        """One program."""
        return Selection(tag, (1 << 64) - 1)

    def all_of(self, group: int) -> Selection:
        """All programs of a group but the detached."""
        mask = _OURS | _DETACHED | (GROUPS - 1) << _GROUP_SHIFT
        return Selection(self._base | group << _GROUP_SHIFT, mask)

    def _ask(self, op: Op, tag: int, **details: Any) -> tuple[int, Reply]:
        try:
            channel = self._wire.ask(op, tag, **details)
        except ConnectionError as error:
            raise self.gone() from error
        try:
            return channel, self._reply(channel)
        except BaseException:
            os.close(channel)
            raise

    def _reply(self, channel: int) -> Reply:
        try:
            return read_reply(channel)
        except ConnectionError as error:
            raise self.gone() from error
