"""The way into a machine by core-infra's agent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._attach import connect
from core_infra.vm._guest.client import AgentClient
from core_infra.vm._guest.guest import Guest
from core_infra.vm._guest.terminal import run_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.vm._guest.process import GuestProcess
    from core_infra.vm._guest.run_config import RunConfig

_PAUSE = 0.05
_NOTICED = 1.0
"""Seconds of waiting before a message is shown."""


class AgentAccess(Guest):
    """A session with core-infra's agent, which has several ports, each for one session at a time.

    Args:
        sockets: the ports' sockets.
        boot: seconds until the agent must answer.
        patience: seconds to wait for the end of another session, if no port is free.
        progress: called with a line if it has to wait for that.

    Raises:
        NoAccessError: the agent does not answer, or no port becomes free.
    """

    def __init__(
        self,
        sockets: Sequence[Path],
        *,
        boot: float,
        patience: float,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        super().__init__(lambda: self._client)
        self._user = ""
        socket, self._lock = _free(sockets, patience, progress)
        try:
            self._client = AgentClient(connect(socket))
            try:
                self.info = self._client.hello(boot).info
                if "binds" in self.info:  # an earlier version may have started the machine
                    self._client.bind()
            except BaseException:
                self._client.close()
                raise
        except CoreInfraError as error:
            self._lock.release()
            raise NoAccessError(
                "the machine's agent does not answer",
                why=error.what,
                todo="Read the machine's console: core-infra vm logs",
            ) from error
        except BaseException:
            self._lock.release()
            raise

    def run_as(self, config: RunConfig | None, user: str = "") -> None:
        """Start commands from now on as an OCI image wants it, or as another user."""
        self._calls.run_config = config
        self._user = user

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> GuestProcess:
        """Start a command, as root in /root unless :meth:`run_as` was called."""
        return self.stream(argv, user=self._user, timeout=timeout)

    def shell(self) -> int:
        """Run a shell on this process's terminal until it ends or is left; its exit code.

        Raises:
            UnavailableError: there is no terminal.
        """
        return run_shell(self._client, user=self._user, config=self._calls.run_config)

    def poweroff(self) -> None:
        """Make the guest write its disks back and power itself off; does not wait for it."""
        self._client.poweroff()

    def close(self) -> None:
        """Close the session; the agent ends commands that still run."""
        self._client.close()
        self._lock.release()


def _free(
    sockets: Sequence[Path], patience: float, progress: Callable[[str], None]
) -> tuple[Path, FileLock]:
    """The socket of a free port, locked."""
    locks = [(socket, FileLock(socket.with_suffix(".lock"))) for socket in sockets]
    started, reported = time.monotonic(), False
    while True:
        for socket, lock in locks:
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                return socket, lock
        waited = time.monotonic() - started
        if waited > patience:
            raise NoAccessError(
                f"the machine's agent has been busy for more than {patience:.0f} s",
                why=f"{len(sockets)} other commands run in the machine",
                todo="Wait until one ends, or enter by the console: core-infra vm console",
            )
        if waited > _NOTICED and not reported:
            progress("other commands run in the machine: waiting until one ends")
            reported = True
        time.sleep(_PAUSE)
