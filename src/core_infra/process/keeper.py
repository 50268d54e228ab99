"""Our side of the keeper, the small program that starts our children and ends them for sure.

Why a program of its own, and not this process, is the children's parent and subreaper:

- ``PR_SET_CHILD_SUBREAPER`` in a test's process changes what ``wait`` means for everybody in it:
  orphans of other libraries' children would become ours, and we could not tell a zombie of theirs
  from one of ours without stealing its exit code.
- It outlives us by a moment, so it can end whole trees even if we are killed with SIGKILL. The
  parent-death signal alone reaches children only, and is tied to the *thread* that forked.
- It is small: a start costs the same whether we have 20 MiB or 20 GiB.

There is one keeper for each process that uses the library, started at first use. Its protocol is
in ``keeper/keeper.h``.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import platform
import signal
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.process.supervisor import READ, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_REQUEST = struct.Struct("=IIQQQIIII")
_REPLY = struct.Struct("=iiq")
_NEWS = struct.Struct("=IiQQQQQ")
_SPAWN, _SIGNAL, _KILL, _LIST = 1, 2, 3, 4
_TERMINAL = _GROUP = 1
_STAGE_DIRECTORY = 1
_GONE = 2

_OURS = 0xFFFFFF << 40
_DETACHED = 1 << 39
_GROUP_SHIFT = 28
_GROUPS = 1 << 11
_NUMBERS = 1 << _GROUP_SHIFT

KILL_TIMEOUT = 10.0
"""Seconds after which a killed program counts as one that cannot be killed."""


class End(NamedTuple):
    """How a program ended.

    Attributes:
        exit_code: minus the signal's number if a signal ended it.
        at: when, on ``time.monotonic``.
        user: seconds of CPU in the program and its children that it waited for.
        system: seconds of CPU in the kernel for them.
        peak_memory: bytes; the largest resident size of one of them.
    """

    exit_code: int
    at: float
    user: float
    system: float
    peak_memory: int


class Selection(NamedTuple):
    """Some of the keeper's programs, with all that they started: those with this value, masked."""

    value: int
    mask: int


class StartRefusedError(OSError):
    """What the system answered, and whether it was about the directory."""

    in_directory = False


class Keeper:
    """The program and the two sockets to it; use :func:`keeper` for the one of this process."""

    def __init__(self) -> None:
        self.identity = _identity()
        requests, theirs = socket.socketpair()
        news, their_news = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())
        fds = (theirs.fileno(), their_news.fileno(), parent)
        try:
            self._popen = subprocess.Popen(
                [_binary(), *map(str, fds)], pass_fds=fds, start_new_session=True
            )
        finally:
            theirs.close()
            their_news.close()
            os.close(parent)
        # It ends when we do, and is not to be waited for: no warning at the interpreter's end.
        self._popen.returncode = 0
        self._base = 1 << 62 | self._popen.pid << 40
        self._numbers = itertools.count(1)
        self._cookies = itertools.count(1)
        self._ends: dict[int, Callable[[End], None]] = {}
        self._gone: dict[int, Future[None]] = {}
        self._lock = threading.Lock()
        self.lost = False
        self._requests = requests
        self._news = news
        news.setblocking(False)  # noqa: FBT003 - the socket module's signature
        supervisor().watch(news.fileno(), READ, self._hear)

    @property
    def pid(self) -> int:
        """The keeper's own process id."""
        return self._popen.pid

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Sequence[bytes],
        fds: Mapping[int, int],
        group: int,
        on_end: Callable[[End], None],
        terminal: bool = False,
        detached: bool = False,
    ) -> tuple[int, int]:
        """Start a program in a session of its own; its tag and its pid.

        Args:
            argv: the program (looked up on the PATH in *env*) and its arguments.
            cwd: an absolute path.
            env: its whole environment, as ``NAME=value``.
            fds: from the numbers that it gets to our descriptors.
            group: from :func:`new_group`.
            on_end: called on the supervisor's thread when it has ended; maybe before this returns.
            terminal: its standard input becomes its controlling terminal.
            detached: it outlives us.

        Raises:
            StartRefusedError: the system does not start it.
            UnavailableError: the keeper was killed.
        """
        number = next(self._numbers) % _NUMBERS
        tag = self._base | group << _GROUP_SHIFT | number | (_DETACHED if detached else 0)
        strings = [os.fsencode("\0".join((cwd, *argv))), *env, b""]
        body = struct.pack(f"={len(fds)}i", *fds) + b"\0".join(strings)
        header = _REQUEST.pack(
            len(body),
            _SPAWN,
            tag,
            0,
            0,
            _TERMINAL if terminal else 0,
            len(argv),
            len(env),
            len(fds),
        )
        self._ends[tag] = on_end
        try:
            error, stage, pid = self._ask(header, body, [*fds.values()])
        except BaseException:
            self._ends.pop(tag, None)
            raise
        if error:
            del self._ends[tag]
            refused = StartRefusedError(error, os.strerror(error))
            refused.in_directory = stage == _STAGE_DIRECTORY
            raise refused
        return tag, pid

    def signal(self, tag: int, number: int, *, group: bool = False) -> bool:
        """Send a signal to a program or its process group; whether the program still ran."""
        flags = _GROUP if group else 0
        error, _, _ = self._ask(_REQUEST.pack(0, _SIGNAL, tag, 0, number, flags, 0, 0, 0))
        return not error

    def kill(self, selection: Selection) -> Future[None]:
        """End the selected programs and all that they started; done when none is left."""
        cookie = next(self._cookies)
        future = self._gone[cookie] = Future()
        value, mask = selection
        try:
            self._ask(_REQUEST.pack(0, _KILL, value, mask, cookie, 0, 0, 0, 0))
        except UnavailableError:  # the parent-death signal has ended them
            self._gone.pop(cookie, None)
            future.set_result(None)
        return future

    def kill_and_wait(self, selection: Selection, killed: Future[None] | None = None) -> None:
        """Wait until the selected programs and all that they started are ended.

        Args:
            selection: which.
            killed: what :meth:`kill` has returned for them; None calls it.

        Raises:
            TimeoutExpiredError: something could not be killed.
        """
        try:
            (killed or self.kill(selection)).result(KILL_TIMEOUT)
        except TimeoutError:
            raise TimeoutExpiredError(
                f"cannot kill the processes {self.members(selection)}",
                why="the kernel has not ended them; such processes wait for a device",
                timeout=KILL_TIMEOUT,
            ) from None

    def members(self, selection: Selection) -> list[int]:
        """The pids of the selected programs and of all that they started."""
        value, mask = selection
        with self._lock:
            self._requests.sendall(_REQUEST.pack(0, _LIST, value, mask, 0, 0, 0, 0, 0))
            _, _, count = _REPLY.unpack(self._receive(_REPLY.size))
            return [*array.array("i", self._receive(count * 4))]

    def disown(self) -> None:
        """In a forked child: our parent's programs are not ours to speak of."""
        self.lost = True
        self._lock = threading.Lock()
        self._requests.close()
        self._news.close()

    def tree(self, tag: int) -> Selection:
        """One program."""
        return Selection(tag, (1 << 64) - 1)

    def all_of(self, group: int) -> Selection:
        """All programs of a group but the detached."""
        mask = _OURS | _DETACHED | (_GROUPS - 1) << _GROUP_SHIFT
        return Selection(self._base | group << _GROUP_SHIFT, mask)

    def _ask(self, header: bytes, body: bytes = b"", fds: Sequence[int] = ()) -> tuple[int, ...]:
        with self._lock:
            try:
                sent = socket.send_fds(self._requests, [header, body], fds)
                if sent < len(header) + len(body):
                    self._requests.sendall((header + body)[sent:])
                return _REPLY.unpack(self._receive(_REPLY.size))
            except OSError as error:
                raise _gone() from error

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._requests.recv(size - len(data))
            if not more:
                raise _gone()
            data += more
        return data

    def _hear(self, _events: int) -> None:
        try:
            while news := self._news.recv(_NEWS.size):
                self._tell(_NEWS.unpack(news))
        except BlockingIOError:
            return
        except OSError:
            pass
        self._lose()

    def _tell(self, news: tuple[int, ...]) -> None:
        kind, status, tag, at, user, system, peak = news
        if kind == _GONE:
            self._gone.pop(tag).set_result(None)
            return
        code = os.waitstatus_to_exitcode(status)
        end = End(code, at / 1e9, user / 1e6, system / 1e6, peak * 1024)
        self._ends.pop(tag)(end)

    def _lose(self) -> None:
        """It has ended, which nobody but a stranger does: so have its programs."""
        self.lost = True
        supervisor().unwatch(self._news.fileno())
        with self._lock:  # nobody is just being started
            self._requests.close()
            self._news.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._popen.pid, 0)
        end = End(-signal.SIGKILL, time.monotonic(), 0.0, 0.0, 0)
        while self._ends:
            self._ends.popitem()[1](end)
        while self._gone:
            self._gone.popitem()[1].set_result(None)


def _gone() -> UnavailableError:
    return UnavailableError(
        "the keeper of our processes is gone",
        why="somebody has killed it; the kernel ended its programs with it",
        todo="Start them again: they get a new one.",
    )


def _binary() -> str:
    path = Path(__file__).parent / "bin" / f"keeper-{platform.machine()}"
    if not path.is_file():
        raise UnavailableError(
            f"there is no keeper of processes for {platform.machine()}: {path}",
            why="it is compiled for x86_64 and aarch64 when core-infra is built or installed",
            todo="Install the tree (pip install -e .), or compile it: python hatch_build.py",
        )
    return os.fspath(path)


def _identity() -> tuple[int, ...]:
    """Whoever changes this gets a new keeper: its programs must not keep rights that we gave up."""
    return (*os.getresuid(), *os.getresgid())


_current: Keeper | None = None
_lock = threading.Lock()


def keeper() -> Keeper:
    """The keeper of this process, started at first use.

    Raises:
        UnavailableError: it was not compiled, or not for this machine.
    """
    global _current  # noqa: PLW0603 - one per process is the point
    found = _current
    if found is None or found.lost or found.identity != _identity():
        with _lock:
            if _current is None or _current.lost or _current.identity != _identity():
                _current = Keeper()
            found = _current
    return found


_groups = itertools.count(1)


def new_group() -> int:
    """A number for programs that can be ended together."""
    return next(_groups) % _GROUPS


def kill_group(group: int) -> None:
    """End all programs of a group but the detached, with all that they started.

    Raises:
        TimeoutExpiredError: something could not be killed.
    """
    found = _current
    if found is not None and not found.lost:
        found.kill_and_wait(found.all_of(group))


def group_members(group: int) -> Sequence[int]:
    """The pids of all programs of a group but the detached, and of all that they started."""
    found = _current
    return [] if found is None or found.lost else found.members(found.all_of(group))


def _forget() -> None:
    global _current, _lock  # noqa: PLW0603 - a forked child keeps nobody's children
    if _current is not None:
        _current.disown()
    _current = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
