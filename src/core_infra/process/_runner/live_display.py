"""The live display of a run on a terminal: what runs now, the progress, and failures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from core_infra._unpatched import time
from core_infra.process._runner import formatting
from core_infra.process._runner.events import RunFinished, RunStarted, SpecFinished, SpecStarted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult, RunResult

_ROWS = 12
"""Specs that are shown at once, as a terminal has a limited height."""


class LiveDisplay:
    """A listener that shows a run on a terminal.

    Use it as a context manager: if the run raises, the terminal is restored.

    Args:
        console: the terminal.
        verbose: also show the output of specs that pass.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._lock = threading.Lock()  # rich draws on a thread of its own
        self._running: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._total = 0
        self._workers = 1
        self._live = Live(console=console, get_renderable=self._draw, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: RunEvent) -> None:
        """Handle an event."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, SpecStarted):
            with self._lock:
                self._running[event.spec.name] = time.monotonic()
        elif isinstance(event, SpecFinished):
            self._finished(event.result)
        elif isinstance(event, RunFinished):
            self._live.stop()
            self._end(event.result)

    def _begin(self, event: RunStarted) -> None:
        self._total = len(event.specs)
        self._workers = event.workers or self._total
        self._expected = {
            spec.name: event.durations[spec.name]
            for spec in event.specs
            if spec.name in event.durations
        }
        self._left = dict.fromkeys((spec.name for spec in event.specs), 0.0) | self._expected
        self._live.start()

    def _finished(self, result: RunResult) -> None:
        with self._lock:
            self._running.pop(result.name, None)
            self._left.pop(result.name, None)
        if result.skipped:
            return  # shown with the failures
        self._console.print(Text(formatting.line(result), "green" if result.passed else "red"))
        if result.passed and self._verbose:
            self._output(result.excerpt)

    def _end(self, result: RunAllResult) -> None:
        for text, output in formatting.failures(result):
            self._console.print()
            self._console.print(Text(text, "bold red"))
            self._output(output)
        style = "bold green" if result.acceptable else "bold red"
        self._console.print(Text(formatting.totals(result), style))

    def _output(self, output: str) -> None:
        if output:
            self._console.print(Text.from_ansi(output))

    def _draw(self) -> RenderableType:
        now = time.monotonic()
        with self._lock:
            running = {name: now - start for name, start in self._running.items()}
            left = dict(self._left)
        done = self._total - len(left)
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._total, 1), completed=done, width=30)
        head.add_row(bar, f"{done}/{self._total}", self._remaining(left, running))
        return Group(head, self._rows(running))

    def _rows(self, running: dict[str, float]) -> Table:
        table = Table.grid(padding=(0, 2))
        # The longest running are on top, and stay there.
        for name, elapsed in list(running.items())[:_ROWS]:
            expected = self._expected.get(name)
            usual = f"of about {formatting.seconds(expected)}" if expected else ""
            table.add_row(f"  {name}", formatting.seconds(elapsed), Text(usual, "dim"))
        if len(running) > _ROWS:
            table.add_row(f"  and {len(running) - _ROWS} more", "", "")
        return table

    def _remaining(self, left: dict[str, float], running: dict[str, float]) -> str:
        if not self._expected:
            return ""
        work = sum(max(expected - running.get(name, 0.0), 0.0) for name, expected in left.items())
        return f"about {formatting.seconds(work / self._workers)} left"
