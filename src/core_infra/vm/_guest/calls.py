"""What the forms of a guest for threads and for asyncio share: all but the waiting."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from core_infra._unpatched import signal
from core_infra.vm._free_space import HostFullError
from core_infra.vm._guest.command import as_argv, start_command
from core_infra.vm._guest.results import (
    ExecResult,
    GuestCommandTimeoutError,
    shown_call,
    unfinished,
)
from core_infra.vm._guest.timeline import Timeline

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.command import RunningCommand
    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._guest.timeline import Step


class GuestCalls:
    """Starts commands in one guest and records them; nothing here waits for their end.

    Args:
        agent: returns the connection to the agent; raises WrongStateError unless the machine runs.
        needs_greeting: whether *agent* would first wait for an answer of the agent.
        run_config: how its image wants commands to be run.

    Attributes:
        timeline: the steps that were recorded.
    """

    def __init__(
        self,
        agent: Callable[[], AgentClient],
        needs_greeting: Callable[[], bool],
        run_config: RunConfig | None,
    ) -> None:
        self.timeline = Timeline()
        self.agent = agent
        self.needs_greeting = needs_greeting
        self.run_config = run_config

    def start(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        timeout: float | None,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        no_input: bool = False,
        step: Step | None = None,
    ) -> RunningCommand:
        """Start a command, as :func:`start_command`; *step* is its step of the timeline."""
        try:
            running = start_command(
                self.agent(),
                command,
                env=env,
                cwd=cwd,
                user=user,
                timeout=timeout,
                no_input=no_input,
                image=self.run_config,
            )
        except BaseException as error:
            if step is not None:
                step.fail(error)
            raise
        running.step = step
        return running

    def streamed(
        self, command: str | Sequence[str | os.PathLike[str]], cwd: str, user: str
    ) -> Step:
        """The step of a command that the caller starts, and follows while it runs."""
        return self.timeline.begin("stream", shown_call(as_argv(command), cwd, user))

    @contextlib.contextmanager
    def executed(self, argv: list[str], limit: float, cwd: str, user: str) -> Iterator[Step]:
        """Within the block, a command runs to its end; it yields its step, which takes the result.

        A command that was killed because its time was up, or because this host is full, has a
        result in the history, too.
        """
        with self.timeline.step("command", shown_call(argv, cwd, user)) as step:
            try:
                yield step
            except GuestCommandTimeoutError as error:
                self.timeline.add_result(step, unfinished(error, limit))
                raise
            except HostFullError:
                killed = ExecResult(argv, -signal.SIGKILL, b"", b"", limit)
                self.timeline.add_result(step, killed)
                raise

    def working(self) -> contextlib.AbstractContextManager[None]:
        """While this is held, the guest's time passes, even if it is virtual."""
        return contextlib.nullcontext() if self.needs_greeting() else self.agent().working()
