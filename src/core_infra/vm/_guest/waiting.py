"""Waiting in a guest, as steps that a thread or an event loop runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

from core_infra._unpatched import os, time
from core_infra.errors import TimeoutExpiredError
from core_infra.vm import _timeouts
from core_infra.vm._guest.command import as_argv, encoded
from core_infra.vm._guest.connection import AgentGoneError
from core_infra.vm._guest.results import (
    ExecResult,
    GuestCommandTimeoutError,
    WaitResult,
    describe_exit,
    shown_command,
    shown_output,
    unfinished,
)
from core_infra.vm._hardware import check_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from core_infra.vm._guest.timeline import Timeline

INTERVAL = 0.05
"""Seconds between two attempts."""

NOTHING = ExecResult([], 0, b"", b"", 0.0)
"""The result of a pause."""

SOCKETS = "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null"
"""The command that shows the guest's own table of sockets, for :func:`listening`."""

_LOOK = 60.0
_LISTEN = "0A"


class _Place(TypedDict, total=False):
    env: Mapping[str, str]
    user: str


OWN: Final[_Place] = {
    "env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/run/core-infra/bin"},
    "user": "0",
}
"""How our own commands are run: what they need is there, whatever the image is."""


@dataclass(frozen=True)
class Run:
    """Run a command to its end, and continue with its result."""

    command: str | Sequence[str | os.PathLike[str]]
    limit: float
    place: _Place = field(default_factory=_Place)


Steps: TypeAlias = "Generator[Run | None, ExecResult, ExecResult]"
"""Yields the next command, or None: wait for :data:`INTERVAL`. Returns the last result."""

_Why: TypeAlias = "Generator[Run, ExecResult, str]"
"""Returns what there is instead, in words."""


def until_succeeds(
    timeline: Timeline,
    command: str | Sequence[str | os.PathLike[str]],
    timeout: float | None,
) -> Steps:
    """Wait until a command succeeds; returns its result."""

    def why(result: ExecResult) -> _Why:
        yield from ()
        ending = describe_exit(result.exit_code)
        return f"the last time it ended with {ending}{shown_output(result)}"

    return _steps(
        timeline,
        lambda left: Run(command, max(0.1, left)),
        lambda result: result.exit_code == 0,
        limit=_timeouts.limit(timeout, 30),
        goal=f"{shown_command(as_argv(command))!r} to succeed",
        why=why,
    )


def for_file(timeline: Timeline, path: str, timeout: float | None) -> Steps:
    """Wait until a path exists."""
    encoded(path, "a path")
    parent = os.path.dirname(path) or "/"

    def why(_result: ExecResult) -> _Why:
        listing = yield _look(["ls", "-la", parent])
        return f"{parent} holds{shown_output(listing)}"

    return _steps(
        timeline,
        lambda _left: _look(["test", "-e", path]),
        lambda result: result.exit_code == 0,
        limit=_timeouts.limit(timeout, 30),
        goal=f"{path!r} to appear in the guest",
        why=why,
    )


def for_port(timeline: Timeline, port: int, timeout: float | None) -> Steps:
    """Wait until a program listens on a TCP port, by the guest's own table of sockets."""
    check_port(port)

    def why(result: ExecResult) -> _Why:
        yield from ()
        return f"listened on there: {sorted(listening(result.stdout)) or 'nothing'}"

    result = yield from _steps(
        timeline,
        lambda _left: _look(SOCKETS),
        lambda result: port in listening(result.stdout),
        limit=_timeouts.limit(timeout, 30),
        goal=f"port {port} to be listened on in the guest",
        why=why,
    )
    timeline.ports.add(port)
    return result


def listening(sockets: str) -> set[int]:
    """The TCP ports that programs listen on, by the guest's table of sockets."""
    rows = [line.split() for line in sockets.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN}


def _look(command: str | Sequence[str]) -> Run:
    """Run a command of our own, not the test's."""
    return Run(command, _timeouts.scaled(_LOOK), OWN)


def _steps(
    timeline: Timeline,
    attempt: Callable[[float], Run],
    is_met: Callable[[ExecResult], bool],
    *,
    limit: float,
    goal: str,
    why: Callable[[ExecResult], _Why],
) -> Steps:
    """Attempt repeatedly until the condition is met; all attempts are one step of the timeline.

    Args:
        timeline: gets a step with a WaitResult.
        attempt: called with the seconds that are left.
        is_met: whether a result is what is waited for.
        limit: seconds; after them, TimeoutExpiredError.
        goal: what is waited for, in words.
        why: what there is instead, for the error.
    """

    def in_vain() -> TimeoutExpiredError:
        return TimeoutExpiredError(f"waited {limit:.1f} s for {goal}", why=seen, timeout=limit)

    entry = timeline.begin("wait", goal)
    started = time.monotonic()
    result = NOTHING
    attempts, reached, seen, gone = 0, False, "", ""
    try:
        while not reached:
            attempts += 1
            try:
                result, gone = (yield attempt(limit - (time.monotonic() - started))), ""
                reached = is_met(result)
            except AgentGoneError as error:  # the guest may be rebooting
                gone = str(error)
            if not reached and time.monotonic() - started >= limit:
                seen = gone or (yield from why(result))
                raise in_vain()
            if not reached:
                yield None
    except GuestCommandTimeoutError as error:
        if attempts > 1:  # it is the last one, which had little time
            seen = yield from why(result)
            raise in_vain() from None
        result = unfinished(error, limit)
        seen = error.why
        raise
    finally:
        waited = WaitResult(
            **vars(result),
            goal=goal,
            reached=reached,
            attempts=attempts,
            waited=time.monotonic() - started,
            seen=seen,
        )
        timeline.add_result(entry, waited)
        entry.finish()
    return result
