"""The session with a machine's agent, which starts over when the agent or the guest restarts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest.connection import AgentGoneError, GuestGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._vmm_process import VmmProcess

_RESTART = 10.0
"""Seconds, before scaling, in which an agent that has ended must be back."""


class AgentSession:
    """The session with the agent in a machine.

    Args:
        process: returns the process that runs the machine; raises an error unless it runs.
        begun: called with the process and the guest's facts in each session but the first: sets up
            what a restarted guest has lost.
    """

    def __init__(
        self,
        process: Callable[[], VmmProcess],
        begun: Callable[[VmmProcess, Mapping[str, str]], None],
    ) -> None:
        self._process = process
        self._begun = begun
        # Not the lock of the machine's state: the supervisor's thread takes that one, and must
        # continue to bring the answer that this one is held for.
        self._lock = threading.Lock()

    def agent(self, limit: float | None) -> AgentClient:
        """The connection to the agent, in a session.

        Args:
            limit: seconds in which an agent that has ended must be back.

        Raises:
            AgentGoneError: it did not come back in time.
            MachineStateError: the machine does not run.
        """
        process = self._process()
        if not process.agent.lost:
            return process.agent
        # The agent has ended; the guest's init starts it again, or the guest restarts.
        deadline = time.monotonic() + (timeouts.scaled(_RESTART) if limit is None else limit)
        with self._lock:
            while (process := self._process()).agent.lost:  # another one, if it was replaced
                self._begin(process, max(deadline - time.monotonic(), 0.0))
        return process.agent

    def _begin(self, process: VmmProcess, limit: float) -> None:
        """Begin a session; returns without one if another process has replaced this one."""
        try:
            self._begun(process, process.agent.hello(limit).info)
        except GuestGoneError:
            if self._process() is process:  # or this raises an error that says more
                raise
        except TimeoutExpiredError as error:
            raise AgentGoneError(
                f"the agent in machine {process.spec.name} has ended",
                why=f"it did not come back within {limit:.0f} s: the guest is rebooting, or "
                "nothing there starts the agent again",
                todo="wait_until_succeeds('true', timeout=…) waits for a guest that reboots.",
            ) from error
