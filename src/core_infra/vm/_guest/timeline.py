"""What a machine was made to do, step by step, for the report of a failed test."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from typing import TYPE_CHECKING

from core_infra._unpatched import time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.vm._guest.results import ExecResult

MOST_STEPS = 1000
_MOST_OUTPUT = 32 * 1024
_TAIL = 4 * 1024
_COMMANDS = ("command", "stream")


@dataclasses.dataclass(eq=False)
class Step:
    """One call of a machine.

    Attributes:
        kind: "command", "stream", "wait", "push", "pull", "read", "write", "snapshot", …; the
            report shows a verb for it.
        what: the command, the files, what is waited for.
        began: when it started, on ``time.monotonic``.
        ended: when it ended, on the same clock; None while it is under way.
        result: of a command, or of a call that waits; the middle of long output is left out.
        exit_code: of a command that was followed, once it is known.
        tail: the end of the output of a command that was followed.
        error: the first line of the error that ended it; "" if none did.
        waited_for: returns what the processes of a command waited for when it was killed because
            its time was up: lines, which arrive a moment later.
        note: how long a fault was active, in words; otherwise "".
        number: of a command whose machine was kept as it stood before it, among those of the test,
            from 1; otherwise 0.
    """

    kind: str
    what: str
    began: float
    ended: float | None = None
    result: ExecResult | None = None
    exit_code: int | None = None
    tail: bytearray = dataclasses.field(default_factory=bytearray)
    error: str = ""
    waited_for: Callable[[], str] = str
    note: str = ""
    number: int = 0

    def add_output(self, data: bytes) -> None:
        """Add output of a command that is followed; only the end is kept."""
        self.tail += data[-_TAIL:]
        del self.tail[:-_TAIL]

    def fail(self, error: BaseException) -> None:
        """It has ended now, by an error."""
        what = getattr(error, "what", None) or str(error)
        self.error = (str(what).splitlines() or [""])[0] or type(error).__name__
        self.finish()

    def finish(self, exit_code: int | None = None) -> None:
        """It has ended now; a second call changes nothing."""
        if self.ended is None:
            self.ended = time.monotonic()
            self.exit_code = exit_code


class Timeline:
    """The steps of a machine, in order; the last 1,000 are kept.

    Attributes:
        history: the last results of commands and of calls that wait, newest last.
        dropped: how many older steps are no longer kept.
        ports: the TCP ports that the test has waited for, and that were listened on then.
        before_command: called with the step of a command just before it starts.
    """

    def __init__(self) -> None:
        self.before_command: Callable[[Step], object] = _nothing
        self.ports: set[int] = set()
        self.history: deque[ExecResult] = deque(maxlen=10)
        self._steps: deque[Step] = deque(maxlen=MOST_STEPS)
        self.dropped = 0

    def begin(self, kind: str, what: str) -> Step:
        """Add a step that starts now."""
        step = Step(kind, what, time.monotonic())
        if kind in _COMMANDS:
            self.before_command(step)
            step.began = time.monotonic()
        if len(self._steps) == MOST_STEPS:
            self.dropped += 1
        self._steps.append(step)
        return step

    @contextlib.contextmanager
    def step(self, kind: str, what: str) -> Iterator[Step]:
        """Within the block, a step is under way; an error is kept and raised."""
        step = self.begin(kind, what)
        try:
            yield step
        except BaseException as error:
            step.fail(error)
            raise
        finally:
            step.finish()

    def add_result(self, step: Step, result: ExecResult) -> None:
        """Add the result of a step; of its output beyond 32 KiB, the middle is not kept."""
        self.history.append(result)
        if len(result.stdout_bytes) > _MOST_OUTPUT or len(result.stderr_bytes) > _MOST_OUTPUT:
            result = dataclasses.replace(
                result,
                stdout_bytes=_shortened(result.stdout_bytes),
                stderr_bytes=_shortened(result.stderr_bytes),
            )
        step.result = result

    def since(self, moment: float) -> list[Step]:
        """The steps that were under way at a moment of ``time.monotonic``, or started later."""
        return [step for step in self._steps if step.ended is None or step.ended >= moment]


def _nothing(_: Step) -> None:
    pass


def _shortened(output: bytes) -> bytes:
    if len(output) <= _MOST_OUTPUT:
        return output
    half = _MOST_OUTPUT // 2
    left_out = len(output) - 2 * half
    return output[:half] + b"\n[... %d bytes ...]\n" % left_out + output[-half:]
