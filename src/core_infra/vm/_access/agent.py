"""Into a machine by core-infra's agent."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.vm._guest.command import GuestProcess

_PAUSE = 0.05
_NOTICED = 1.0
"""Seconds of waiting that are not worth a word."""


class AgentAccess(Guest):
    """The agent, each of whose lines serves one session at a time: another one takes another line.

    Args:
        sockets: the lines'.
        boot: seconds that the guest may take until its agent answers.
        patience: seconds to wait for the end of a session, if none of the lines is free.
        tell: is given a line when it has to wait for that.

    Raises:
        NoAccessError: the agent does not answer, or others hold all lines.
    """

    def __init__(
        self,
        sockets: Sequence[Path],
        *,
        boot: float,
        patience: float,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        super().__init__()
        socket, self._lock = _free(sockets, patience, tell)
        try:
            self._client = AgentClient(connect(socket))
            try:
                self.info = self._client.hello(boot).info
                if "binds" in self.info:  # a machine may run since an earlier version
                    self._client.bind()
            except BaseException:
                self._client.close()
                raise
        except CoreInfraError as error:
            self._lock.release()
            raise NoAccessError(
                "the machine's agent does not answer",
                why=error.what,
                todo="See what the machine says: core-infra vm logs",
            ) from error
        except BaseException:
            self._lock.release()
            raise

    @property
    def agent(self) -> AgentClient:
        """The connection to the agent."""
        return self._client

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> GuestProcess:
        """Start a command as root in /root."""
        return self.stream(argv, timeout=timeout)

    def close(self) -> None:
        """Leave; the agent ends commands that still run."""
        self._client.close()
        self._lock.release()


def _free(
    sockets: Sequence[Path], patience: float, tell: Callable[[str], None]
) -> tuple[Path, FileLock]:
    """A line that nobody else uses, locked."""
    locks = [(socket, FileLock(socket.with_suffix(".lock"))) for socket in sockets]
    started, told = time.monotonic(), False
    while True:
        for socket, lock in locks:
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                return socket, lock
        waited = time.monotonic() - started
        if waited > patience:
            raise NoAccessError(
                f"the machine's agent is busy for more than {patience:.0f} s",
                why=f"{len(sockets)} other commands run there",
                todo="Wait for the end of one, or look at the console: core-infra vm console",
            )
        if waited > _NOTICED and not told:
            tell("other commands run in the machine: waiting for the end of one")
            told = True
        time.sleep(_PAUSE)
