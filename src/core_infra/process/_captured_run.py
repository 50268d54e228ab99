"""Runs one command to its end and keeps its output, without a service or events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core_infra._eventloop.supervisor import supervisor
from core_infra.process._lifecycle import Lifecycle
from core_infra.process._output import DEFAULT_SIZE, Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process._events import Stream
    from core_infra.process._options import RunOptions

_INTERVAL = 0.05
"""Seconds between two looks whether the command is still wanted."""


class CommandResult(NamedTuple):
    """The result of :meth:`Process.run_beside`.

    Attributes:
        exit_code: minus the signal's number if a signal ended it; None if it was not started.
        output: the last mebibyte that it wrote, on both streams.
        error: why it could not be started, or killed.
        timed_out: it did not end in time, and was killed.
    """

    exit_code: int | None
    output: str
    error: Exception | None
    timed_out: bool


def run_captured(
    options: RunOptions, group: int, *, while_true: Callable[[], bool]
) -> CommandResult:
    """Run a program to its end; nothing of it is left running.

    Args:
        options: the program; its timeout holds.
        group: the reaper's group that it belongs to.
        while_true: once this is false, the program is killed.

    Raises:
        CannotKillError: something still runs 10 seconds after it was killed.
    """
    output = _CapturedOutput(DEFAULT_SIZE)
    life = Lifecycle(options, b"", group, output, supervisor())
    try:
        life.start(report_at_once=False)
        while not life.over.wait(_INTERVAL) and while_true():
            pass
    finally:
        life.stop(0)
        life.await_gone()
    end = life.run.end if life.run is not None else None
    text = output.read().decode(errors="replace")
    return CommandResult(end.exit_code if end else None, text, life.error, life.timed_out)


class _CapturedOutput(Output):
    """The output of a program, as the observer of its lifecycle."""

    def on_start(self, pid: int) -> None:
        """Nothing depends on it."""

    def on_output(self, stream: Stream, data: bytes) -> None:
        """Keep it."""
        self.write(stream, data)

    def on_end(self, error: Exception | None) -> None:  # noqa: ARG002 - the lifecycle has it
        """No more output is read."""
        self.ring.close()
