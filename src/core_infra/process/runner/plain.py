"""A run told line by line: for logs and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from core_infra.process.runner import words
from core_infra.process.runner.events import RunFinished, SpecFinished, SpecStarted

if TYPE_CHECKING:
    from core_infra.process.runner.events import Event
    from core_infra.process.runner.results import RunAllResult, RunResult


class Plain:
    """A listener that writes each spec's output in one piece when it has ended, failures last.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if isinstance(event, SpecStarted) and event.previous is not None:
            self._write(f"again    {event.spec.name}: {words.first_line(event.previous.reason)}")
        elif isinstance(event, SpecFinished):
            self._finished(event.result)
        elif isinstance(event, RunFinished):
            self._end(event.result)
        self._stream.flush()

    def _finished(self, result: RunResult) -> None:
        self._write(words.line(result))
        if result.passed:
            self._indented(result.excerpt)

    def _end(self, result: RunAllResult) -> None:
        for told, output in words.failures(result):
            self._write("")
            self._write(told)
            self._indented(output)
        self._write("")
        self._write(words.totals(result))

    def _indented(self, output: str) -> None:
        for line in output.splitlines():
            self._write(f"  | {line}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
