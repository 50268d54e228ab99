"""Direct children: programs that never outlive this process, such as hypervisors."""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import IO, TYPE_CHECKING

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import READ, supervisor
from core_infra._unpatched import os, shutil, signal, subprocess, time
from core_infra.errors import TimeoutExpiredError
from core_infra.process._errors import ProgramNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# If the parent died before the parent-death signal was armed, it would never be sent: so check
# afterwards that the parent is still the one that started the program.
_GUARD = '[ "$PPID" = "$1" ] || exit 125; shift; exec "$@"'


class Child:
    """A direct child: started by :func:`spawn`, or a fork of such a program that is our child, too.

    Args:
        argv: the command.
        pid: its process id; it leads its own process group.
        reap: returns its exit code once it has ended; None waits for *pid*.
        adopted: it is a child of another process, which reaps it at any time.

    Attributes:
        argv: the command as it was given.
        pid: its process id; also the id of its own process group and session.
        started_at: when it was started, on ``time.monotonic``.
        exit_code: its exit code once it has ended, minus the signal's number if a signal ended
            it; None while it runs.
    """

    def __init__(
        self,
        argv: Sequence[str],
        pid: int,
        reap: Callable[[], int] | None = None,
        *,
        adopted: bool = False,
    ) -> None:
        self.argv = list(argv)
        self.pid = pid
        self.started_at = time.monotonic()
        self.exit_code: int | None = None
        self._adopted = adopted
        self._reap = reap or (lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        self._ended = Latch()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[int], None]] = []
        self._pidfd = os.pidfd_open(pid)
        supervisor().call(lambda: supervisor().watch(self._pidfd, READ, self._end))

    def _end(self, _events: int) -> None:
        with self._lock:
            self.exit_code = self._reap()
            callbacks, self._callbacks = self._callbacks, []
        supervisor().unwatch(self._pidfd)
        os.close(self._pidfd)
        self._ended.set()
        for callback in callbacks:
            callback(self.exit_code)

    def is_running(self) -> bool:
        """Whether the program has not ended yet."""
        return not self._ended.is_set()

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Call *callback(exit_code)* on the supervisor's thread when the program has ended.

        If it has ended already, it is called at once, on the caller's thread.
        """
        with self._lock:
            if self.exit_code is None:
                self._callbacks.append(callback)
                return
        callback(self.exit_code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the program ends; returns its exit code.

        Raises:
            TimeoutExpiredError: it still runs after *timeout* seconds.
        """
        if not self._ended.wait(timeout):
            raise TimeoutExpiredError(
                f"process {self.pid} ({self.argv[0]}) still runs after {timeout} s",
                timeout=timeout,
            )
        assert self.exit_code is not None  # noqa: S101 - set before the event
        return self.exit_code

    def signal_group(self, number: int) -> None:
        """Send a signal to the program's process group; does nothing if the program has ended.

        An adopted program gets it alone: its group may be another one's as soon as it has ended.
        """
        with self._lock:
            if self.exit_code is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                if self._adopted:
                    signal.pidfd_send_signal(self._pidfd, number)
                else:  # not yet reaped, so neither the pid nor the group's id can be reused
                    os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill the program's process group, and wait until the program has ended."""
        self.signal_group(signal.SIGKILL)
        self._ended.wait()

    def stop(self, *, ask: Callable[[], object] | None = None, grace: float = 5.0) -> str:
        """Stop the program by ever stronger means; returns the one that it took.

        First *ask* (a request that the program understands), then SIGTERM, each with *grace*
        seconds, then SIGKILL to the whole group.

        Returns:
            "gone" (it had ended before), "asked", "terminated" or "killed".
        """
        if not self.is_running():
            return "gone"
        steps: list[tuple[str, Callable[[], object]]] = [
            ("terminated", lambda: self.signal_group(signal.SIGTERM)),
        ]
        if ask is not None:
            steps.insert(0, ("asked", ask))
        for outcome, step in steps:
            step()
            if self._ended.wait(grace):
                return outcome
        self.kill()
        return "killed"


@functools.cache
def _guard_prefix() -> list[str]:
    setpriv = shutil.which("setpriv")  # util-linux; absent on other systems
    if setpriv is None:
        return []
    return [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _GUARD, "core-infra"]


def guarded(argv: Sequence[str]) -> list[str]:
    """The command that starts *argv* so that it ends when this thread does, where one can."""
    prefix = _guard_prefix()
    return [*prefix, str(os.getpid()), *argv] if prefix else list(argv)


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    die_with_parent: bool = True,
    without_file_signals: bool = False,
) -> Child:
    """Start a program in a session of its own, without standard input.

    Args:
        argv: the program (found on PATH) and its arguments.
        cwd: its working directory.
        env: its whole environment; None inherits ours.
        output: the file for its stdout and stderr; None discards both.
        pass_fds: descriptors that it inherits, with the same numbers.
        die_with_parent: the kernel kills it when this process ends, however it ends. ``setpriv``
            arms that; a ``preexec_fn`` would make every start slower as this process grows.
        without_file_signals: SIGPIPE and SIGXFSZ do not end it, as they do not end Python: it can
            report a file that reaches ``ulimit -f`` as an error.

    Raises:
        ProgramNotFoundError: the program does not exist.
    """
    if shutil.which(argv[0]) is None:
        raise ProgramNotFoundError(
            f"cannot start {argv[0]!r}", why="no such program on PATH", todo="Is it installed?"
        )
    command = guarded(argv) if die_with_parent else list(argv)

    def start() -> Child:
        popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.STDOUT if output else subprocess.DEVNULL,
            pass_fds=pass_fds,
            start_new_session=True,
            restore_signals=not without_file_signals,
        )
        return Child(argv, popen.pid, popen.wait)

    return supervisor().call(start)
