"""Into a machine by core-infra's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from core_infra.errors import CoreInfraError
from core_infra.vm.access.access import NoAccessError
from core_infra.vm.attach import connect
from core_infra.vm.guest.client import AgentClient
from core_infra.vm.guest.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.vm.guest.command import GuestProcess

_LOCK = "agent.lock"
_NOTICED = 1.0
"""Seconds of waiting that are not worth a word."""


class AgentAccess(Guest):
    """The agent, whose one line serves one session at a time: another one waits for its end.

    Args:
        socket: the line's.
        boot: seconds that the guest may take until its agent answers.
        patience: seconds to wait for the session of another process.
        tell: is given a line when it has to wait for that.

    Raises:
        NoAccessError: the agent does not answer, or somebody else holds the line.
    """

    def __init__(
        self,
        socket: Path,
        *,
        boot: float,
        patience: float,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        super().__init__()
        self._lock = FileLock(socket.with_name(_LOCK))
        try:
            try:
                self._lock.acquire(timeout=min(_NOTICED, patience))
            except Timeout:
                tell("another command runs in the machine: waiting for its end")
                self._lock.acquire(timeout=max(0.0, patience - _NOTICED))
        except Timeout:
            raise NoAccessError(
                f"the machine's agent is busy for more than {patience:.0f} s",
                why="another command runs there",
                todo="Wait for its end, or look at the console: core-infra vm console",
            ) from None
        try:
            self._client = AgentClient(connect(socket))
            try:
                self.info = self._client.hello(boot).info
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
        """Leave; commands that still run are ended by the next session."""
        self._client.close()
        self._lock.release()
