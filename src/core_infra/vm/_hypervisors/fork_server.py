"""Fork a running QEMU: a copy of the process, with all its threads, in milliseconds.

QEMU has the library of this package preloaded and an end of a control socket. On request the
library parks QEMU's threads, clones the process and makes the threads anew in the clone, which is
a child of this process, not of the QEMU that it is a copy of. What such a clone has that a restored
machine lacks is the translation of the guest's code, which under TCG costs more than all the rest.

Sources: the fork server of AFL (Zalewski, 2014), for the idea; DMTCP (Ansel, Arya, Cooperman,
2009), for making threads anew. ``docs/fork-server.md`` describes how it works and what it refuses.
"""

from __future__ import annotations

import array
import contextlib
import errno
import platform
import struct
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from core_infra._binaries import BINARIES
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

_READY, _FORKED, _NOT_IDLE = 0, 1, 5
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
    13: "thread {subject} can't be made anew in the clone: {error}",
    14: "its C library keeps thread ids where they can't be found",
}


def preloaded(command: Sequence[str]) -> list[str]:
    """The command that starts *command* with the library, which gives its disks a write cache.

    Only that program gets the library: what starts it, such as a shell, must come before.

    Raises:
        UnavailableError: this host can't.
    """
    preload = ":".join(filter(None, [_library(), os.environ.get("LD_PRELOAD")]))
    return [_ENV, f"LD_PRELOAD={preload}", *command]


def can_preload() -> bool:
    """Whether this host can preload the library into a program."""
    try:
        _library()
    except UnavailableError:
        return False
    return True


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

    Raises:
        UnavailableError: this host can't.
    """

    def __init__(self) -> None:
        _library()
        self._serve(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    @classmethod
    def _of_clone(cls) -> Self:
        server = cls.__new__(cls)
        server._serve(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))  # noqa: SLF001
        return server

    def _serve(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        self._theirs = theirs
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
                process ends, or this process, however it ends.
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
        clone = ForkServer._of_clone()
        try:
            request = _request(list(replacements), die_with_parent, clock)
            with self._lock:
                pid = self._ask(request, [*replacements.values(), *clone.fds()], clock)
            clone.inherited()
            clone._acknowledge(pid, clock)  # noqa: SLF001
        except BaseException:
            clone.close()
            raise
        return Fork(pid, clone)

    def close(self) -> None:
        """Close our end; the process lives on, but can't be forked any more."""
        self._ours.close()
        self._theirs.close()

    def _ask(self, request: bytes, fds: list[int], clock: _Clock) -> int:
        """Have the process forked; returns the clone's pid."""
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


def _request(targets: list[int], die_with_parent: bool, clock: _Clock) -> bytes:  # noqa: FBT001
    padding = [0] * (MAX_REPLACEMENTS - len(targets))
    deadline = round(clock.deadline * 1e9)
    return _REQUEST.pack(die_with_parent, os.getpid(), deadline, len(targets), *targets, *padding)


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
    path = BINARIES / f"forkserver-{platform.machine()}.so"
    if not sys.platform.startswith("linux"):
        why = "it needs Linux"
    elif not path.is_file():
        why = f"the library is missing: {path}"
    elif set(str(path)) & set(" :"):
        why = f"a library can't be preloaded from a path with a space or a colon: {path}"
    elif shutil.which(_ENV) is None:
        why = f"there is no {_ENV}"
    else:
        return str(path)
    raise UnavailableError("this host has no fork server for QEMU", why=why)
