"""Fork a running QEMU: a copy of the process, with all its threads, in milliseconds.

QEMU has the library of this package preloaded and an end of a control socket. On request the
library parks QEMU's threads, clones the process and creates the threads again in the clone, which
is a child of this process, not of the QEMU that it is a copy of. What such a clone has that a
restored machine lacks is the translation of the guest's code, which under TCG costs more than all
the rest.

Sources: the fork server of AFL (Zalewski, 2014), for the idea; DMTCP (Ansel, Arya, Cooperman,
2009), for creating threads again. ``docs/fork-server.md`` describes how it works and what it
refuses.
"""

from __future__ import annotations

import array
import contextlib
import errno
import struct
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from core_infra._binaries import host_program
from core_infra._unpatched import os, shutil, signal, socket, time
from core_infra.errors import (
    CoreInfraError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
    WrongStateError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_REPLACEMENTS = 32
"""How many descriptors a fork can replace."""

_ENV = "/usr/bin/env"
_REQUEST = struct.Struct(f"=IiqI{MAX_REPLACEMENTS}i4x")
_REPLY = struct.Struct("=iii116s")
# Seconds after the deadline that the answer may take: for copying the page tables of a large guest,
# and for a busy host.
_GRACE = 5.0

_INDEPENDENT, _WITH_PARENT, _WITH_CONTROL = 0, 1, 2
_READY, _FORKED, _NOT_IDLE, _EXITED = 0, 1, 5, 15
_PROBLEMS = {
    2: "the library does not understand the request: it is of another version",
    3: "descriptor {subject} is to be replaced, but is not open there",
    4: "its parent is process {subject}, and only the parent can have its clones as children",
    6: "it has more than {subject} threads",
    7: "thread {subject} is not one of the C library",
    8: "thread {subject} can't be signalled: {error}",
    9: "it can't be cloned: {error}",
    10: "its clones would share memory: {detail}",
    11: "its clones would share descriptor {subject}: {detail}",
    12: "descriptor {subject} can't be renewed in the clone: {error}",
    13: "thread {subject} can't be created again in the clone: {error}",
    14: "its C library keeps thread ids where they can't be found",
    _EXITED: "it has exited",
}


def preloaded(command: Sequence[str]) -> list[str]:
    """The command that starts *command* with the library, which gives its disks a write cache.

    Only that program gets the library: what starts it, such as a shell, must come before.

    Raises:
        UnavailableError: this host can't.
    """
    preload = ":".join(filter(None, [_library(), os.environ.get("LD_PRELOAD")]))
    return [_ENV, f"LD_PRELOAD={preload}", *command]


def why_not() -> UnavailableError | None:
    """Why this host cannot preload the library into a program; None if it can."""
    try:
        _library()
    except UnavailableError as error:
        return error
    return None


class Fork(NamedTuple):
    """A clone.

    Attributes:
        pid: its process id, which is also the id of its session; a child of this process, which
            must wait for it.
        server: its own fork server.
    """

    pid: int
    server: ForkServer


class ForkServer:
    """The fork server in one process: in a QEMU that is started with it, or in a clone.

    Start QEMU with :meth:`command` and :meth:`fds`, then call :meth:`inherited`. It must be a
    direct child of this process. Can be used from several threads.

    Attributes:
        adopted: the process is a child of another one than this, and so are its clones.

    Raises:
        UnavailableError: this host can't.
    """

    def __init__(self) -> None:
        _library()
        self._serve(adopted=False)

    @classmethod
    def of_clone(cls, *, adopted: bool) -> Self:
        """The fork server of a clone that :meth:`fork_for` is about to make."""
        server = cls.__new__(cls)
        server._serve(adopted=adopted)  # noqa: SLF001
        return server

    @classmethod
    def connected(cls, fd: int) -> Self:
        """The fork server of a child of this process that another process has started it for.

        Args:
            fd: that one's end of the control socket; owned by this object from now on.
        """
        server = cls.of_clone(adopted=False)
        server.close()
        server._ours = socket.socket(fileno=fd)  # noqa: SLF001
        return server

    @property
    def control(self) -> int:
        """Our end of the control socket, for :meth:`connected`."""
        return self._ours.fileno()

    def _serve(self, *, adopted: bool) -> None:
        self.adopted = adopted
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._ready = False

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that starts *command*, a program and its arguments, with the fork server."""
        fd = self._theirs.fileno()
        return preloaded([f"CORE_INFRA_FORK_SERVER={fd}", *command])

    def fds(self) -> list[int]:
        """The descriptors that QEMU must inherit."""
        return [self._theirs.fileno()]

    def inherited(self) -> None:
        """QEMU has its end: close our copy, so that its end is noticed."""
        self._theirs.close()

    def fork(
        self,
        replacements: Mapping[int, int],
        *,
        die_with_parent: bool = True,
        timeout: float = 5.0,
    ) -> Fork:
        """Fork the process; returns once all threads of the clone run.

        The process that is forked notices nothing. It should be stopped (QMP ``stop``): a thread
        is forked only while it waits.

        Args:
            replacements: descriptors of QEMU, by number, and what the clone shall have in their
                place: its end of a new connection, or another log as 1 and 2. They remain open
                here. A connection that is not replaced is closed in the clone.
            die_with_parent: the kernel kills the clone when the thread that started the first
                process ends, or this process, however it ends. An adopted clone ends itself when
                this process ends or closes its fork server.
            timeout: seconds that all this may take.

        Raises:
            TimeoutExpiredError: some thread was not waiting within *timeout* seconds.
            UnavailableError: the process can't be forked, or has ended; says why.
            WrongStateError: the fork server was closed.
        """
        if len(replacements) > MAX_REPLACEMENTS:
            raise InvalidError(
                f"cannot replace {len(replacements)} descriptors",
                why=f"a fork replaces {MAX_REPLACEMENTS} at most",
            )
        clock = _Clock(timeout)
        clone = ForkServer.of_clone(adopted=self.adopted)
        dies = _WITH_CONTROL if self.adopted else _WITH_PARENT
        try:
            pid = self._ask(
                replacements,
                clone.fds(),
                clock,
                lifetime=dies if die_with_parent else _INDEPENDENT,
                parent=0 if self.adopted else os.getpid(),
            )
            clone.inherited()
            clone._acknowledge(pid, clock)  # noqa: SLF001
        except BaseException:
            clone.close()
            raise
        return Fork(pid, clone)

    def fork_for(self, replacements: Mapping[int, int], control: int, *, timeout: float) -> int:
        """Fork the process for another one, which adopts the clone.

        Args:
            replacements: as in :meth:`fork`.
            control: the descriptor in :meth:`fds` of the clone's fork server over there, which
                then calls :meth:`adopt`. The clone ends when that is closed.
            timeout: seconds that all this may take.

        Returns:
            The clone's pid; it is a child of this process.

        Raises:
            CoreInfraError: as :meth:`fork` does.
        """
        return self._ask(
            replacements,
            [control],
            _Clock(timeout),
            lifetime=_WITH_CONTROL,
            parent=os.getpid(),
        )

    def adopt(self, pid: int, timeout: float) -> None:
        """Complete what another process has begun with :meth:`fork_for`.

        Raises:
            TimeoutExpiredError: the clone does not answer within *timeout* seconds.
            UnavailableError: it has ended.
        """
        self.inherited()
        self._acknowledge(pid, _Clock(timeout))

    def exit_code(self) -> int:
        """The exit code of an adopted process that has ended; SIGKILL's if it did not exit."""
        with contextlib.suppress(OSError):
            packet = self._ours.recv(_REPLY.size, socket.MSG_DONTWAIT)
            if len(packet) == _REPLY.size:
                outcome, _, subject, _ = _REPLY.unpack(packet)
                if outcome == _EXITED:
                    return int(subject)
        return -signal.SIGKILL

    def close(self) -> None:
        """Close our end; the process lives on, but can't be forked any more."""
        self._ours.close()
        self._theirs.close()

    def _ask(
        self,
        replacements: Mapping[int, int],
        control: list[int],
        clock: _Clock,
        *,
        lifetime: int,
        parent: int,
    ) -> int:
        """Have the process forked; returns the clone's pid."""
        targets = [*replacements, *[0] * (MAX_REPLACEMENTS - len(replacements))]
        deadline = round(clock.deadline * 1e9)
        request = _REQUEST.pack(lifetime, parent, deadline, len(replacements), *targets)
        with self._lock:
            return self._exchange(request, [*replacements.values(), *control], clock)

    def _exchange(self, request: bytes, fds: list[int], clock: _Clock) -> int:
        if self._ours.fileno() < 0:
            raise WrongStateError(
                "cannot fork the process: its fork server is closed", needed="open", found="closed"
            )
        if not self._ready:
            self._receive(_READY, clock, 0.0)
            self._ready = True
        try:
            self._ours.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _ints(fds))])
            return self._receive(_FORKED, clock, _GRACE)
        except OSError as error:
            raise _gone(error) from error
        except CoreInfraError:
            raise
        except BaseException:
            self.close()  # interrupted: the same
            raise

    def _acknowledge(self, pid: int, clock: _Clock) -> None:
        """Wait until the clone has its threads, and confirm it; without that it ends itself."""
        try:
            self._receive(_READY, clock, _GRACE)
            self._ready = True
            self._ours.send(b"+")
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if isinstance(error, OSError) and not isinstance(error, CoreInfraError):
                raise _gone(error) from error
            raise

    def _receive(self, expected: int, clock: _Clock, grace: float) -> int:
        """The subject of the next reply, which must be the expected one."""
        try:
            self._ours.settimeout(clock.left() + grace)
            packet = self._ours.recv(_REPLY.size)
        except (TimeoutError, BlockingIOError):
            if self._ready:
                self.close()  # a late answer would be taken for that of the next request
            raise TimeoutExpiredError(
                f"the fork server did not answer within {clock.timeout:g} s",
                why="its process is stopped, or does not have the library",
                timeout=clock.timeout,
            ) from None
        except OSError as error:
            raise _gone(error) from error
        if len(packet) != _REPLY.size:
            raise _gone(None)
        outcome, number, subject, detail = _REPLY.unpack(packet)
        if outcome != expected:
            _fail(outcome, number, subject, os.fsdecode(detail.rstrip(b"\0")), clock.timeout)
        return int(subject)


class _Clock:
    """A deadline."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)


def _ints(numbers: list[int]) -> array.array[int]:
    return array.array("i", numbers)


def _fail(outcome: int, number: int, subject: int, detail: str, timeout: float) -> NoReturn:
    if outcome == _NOT_IDLE:
        raise TimeoutExpiredError(
            f"cannot fork the process within {timeout:g} s",
            why=f"thread {subject} was busy",
            todo="Is its machine stopped?",
            timeout=timeout,
            thread=subject,
        )
    why = _PROBLEMS.get(outcome, f"outcome {outcome}")
    raise UnavailableError(
        "cannot fork the process",
        why=why.format(subject=subject, error=os.strerror(number), detail=detail or "anonymous"),
        errno=number,
    )


def _gone(error: OSError | None) -> UnavailableError:
    return UnavailableError(
        "cannot fork the process",
        why="it has ended, or its program can't have a library preloaded: "
        f"{error or os.strerror(errno.EPIPE)}",
    )


def _library() -> str:
    """The library for this host."""
    if not sys.platform.startswith("linux"):
        raise UnavailableError("this host has no fork server for QEMU", why="it needs Linux")
    path = host_program("forkserver.so", "fork server")
    if set(str(path)) & set(" :"):
        why = f"a library can't be preloaded from a path with a space or a colon: {path}"
    elif shutil.which(_ENV) is None:
        why = f"there is no {_ENV}"
    else:
        return str(path)
    raise UnavailableError("this host has no fork server for QEMU", why=why)
