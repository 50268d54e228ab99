"""A run text line by line: for logs and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from core_infra.process._runner import formatting
from core_infra.process._runner.events import RunFinished, SpecFinished, SpecStarted, SpecWrote

if TYPE_CHECKING:
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult, RunResult


class LogDisplay:
    """A listener that writes each spec's output in one piece when it has ended, failures last.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: RunEvent) -> None:
        """Handle an event."""
        if isinstance(event, SpecStarted) and event.previous is not None:
            self._write(
                f"again    {event.spec.name}: {formatting.first_line(event.previous.reason)}"
            )
        elif isinstance(event, SpecFinished):
            self._finished(event.result)
        elif isinstance(event, RunFinished):
            self._end(event.result)
        self._stream.flush()

    def _finished(self, result: RunResult) -> None:
        self._write(formatting.line(result))
        if result.passed:
            self._indented(result.excerpt)

    def _end(self, result: RunAllResult) -> None:
        for text, output in formatting.failures(result):
            self._write("")
            self._write(text)
            self._indented(output)
        self._write("")
        self._write(formatting.totals(result))

    def _indented(self, output: str) -> None:
        for line in output.splitlines():
            self._write(f"  | {line}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")


_COLOURS = ("36", "33", "35", "34", "96", "93", "95", "94")
"""Neither red nor green, which say how something has ended."""
_RED, _GREEN = "31", "32"


class LineDisplay:
    """A listener for a runner with ``live=True``.

    Args:
        stream: where to.
        colours: names and results are coloured.
    """

    def __init__(self, stream: TextIO, *, colours: bool = False) -> None:
        self._stream = stream
        self._colours = colours
        self._wrote: dict[str, str] = {}  # the prefixes of those that have written, by name

    def __call__(self, event: RunEvent) -> None:
        """Handle an event."""
        if isinstance(event, SpecWrote):
            self._lines(event.spec.name, "\n".join(event.lines))
        elif isinstance(event, SpecStarted) and event.previous is not None:
            reason = formatting.first_line(event.previous.reason)
            self._stream.write(f"again    {event.spec.name}: {reason}\n")
        elif isinstance(event, SpecFinished):
            self._finished(event.result)
        elif isinstance(event, RunFinished):
            self._end(event.result)
        self._stream.flush()

    def _finished(self, result: RunResult) -> None:
        if result.output_bytes and result.name not in self._wrote:  # a call, or from an executor
            self._lines(result.name, result.excerpt)
        colour = _GREEN if result.passed else "" if result.skipped else _RED
        self._stream.write(self._painted(formatting.line(result), colour) + "\n")

    def _end(self, result: RunAllResult) -> None:
        self._stream.write("\n")
        for text, _ in formatting.failures(result):
            self._stream.write(self._painted(text, _RED) + "\n")
        colour = _GREEN if result.acceptable else _RED
        self._stream.write(self._painted(formatting.totals(result), colour) + "\n")

    def _lines(self, name: str, text: str) -> None:
        prefix = self._wrote.get(name)
        if prefix is None:
            colour = _COLOURS[len(self._wrote) % len(_COLOURS)]
            self._wrote[name] = prefix = self._painted(name, colour) + " | "
        # A carriage return, as progress bars write it, would let the text hide the name.
        self._stream.write("".join(f"{prefix}{line}\n" for line in text.splitlines() or [""]))

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text
