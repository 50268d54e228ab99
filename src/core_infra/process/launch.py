"""Start a program with given descriptors, signal it and what it started, learn its end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from core_infra.process.supervisor import READ, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class End:
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


class Launched:
    """A program that was started."""

    def __init__(self, popen: subprocess.Popen[bytes], on_end: Callable[[End], None]) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._on_end = on_end
        self._pidfd = os.pidfd_open(self.pid)
        supervisor().watch(self._pidfd, READ, self._ended)

    def signal(self, number: int) -> None:
        """Send a signal to the program; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the program's process group; nothing if the program has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill_tree(self) -> None:
        """End the program and all that it started."""
        self.signal_group(signal.SIGKILL)

    def _ended(self, _events: int) -> None:
        supervisor().unwatch(self._pidfd)
        _, status, usage = os.wait4(self.pid, 0)
        self._popen.returncode = code = os.waitstatus_to_exitcode(status)
        end = End(code, time.monotonic(), usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)
        self._on_end(end)


def launch(
    argv: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str],
    stdio: tuple[int, int, int],
    pass_fds: Sequence[int],
    on_end: Callable[[End], None],
) -> Launched:
    """Start a program."""

    def start() -> Launched:
        popen = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            pass_fds=pass_fds,
            start_new_session=True,
        )
        return Launched(popen, on_end)

    return supervisor().call(start)
