"""A poller that tests step by hand: the value of the fixture ``core_poller``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from core_infra.jobrunner._clock import FakeClock
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._poller import Poller
from core_infra.jobrunner._poller_config import PollerConfig
from core_infra.jobrunner._sources.recorded import RecordedSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.jobrunner._cycle_state import CycleReport
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._journal.journal import Journal
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal

_INTERVAL = 60.0


class Stepper:
    """A poller that runs one cycle at a time, with a clock and a source for the test.

    Args:
        journal: where it writes.

    Attributes:
        clock: its clock.
        source: its only source.
        poller: the poller itself.
        journal: the same.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.clock = FakeClock()
        self.source = RecordedSource()
        self._handlers: list[JobHandler] = []
        self.poller = self._new()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.poller.close()

    @property
    def signals(self) -> Sequence[PipelineSignal]:
        """The signals of the source."""
        return self.source.signals

    @signals.setter
    def signals(self, signals: Sequence[PipelineSignal]) -> None:
        self.source.signals = signals

    @property
    def reports(self) -> list[ActionResult]:
        """The results that were reported to the source."""
        return self.source.reports

    def add_handler(self, handler: JobHandler) -> None:
        """Add a handler behind the others."""
        self.poller.add_handler(handler)
        self._handlers.append(handler)

    def step(self, *, dry_run: bool = False) -> CycleReport:
        """Run one cycle, and advance the clock by a minute.

        Args:
            dry_run: only list what would be done.
        """
        self.poller.dry_run = dry_run
        self._before = self._sizes()
        try:
            return self.poller.run_once()
        finally:
            self.clock.advance(_INTERVAL)

    def restart(self) -> None:
        """Continue like a new process, which knows only the journal."""
        self.poller.close()
        self.journal.close()
        Path(self.journal.base_dir, ".index.sqlite3").unlink()
        self.poller = self._new()

    def crash(self) -> None:
        """Continue like a new process after a kill between the last step's actions and results."""
        self.poller.close()
        for path in self.journal.files():
            file = Path(self.journal.base_dir, path)
            end = self._before.get(path, 0)
            for entry, after in self.journal.read(path, start=end):
                if entry.phase is not Phase.INTENT:
                    break
                end = after
            self.journal.close()
            with file.open("r+b") as kept:
                kept.truncate(end)
        self.restart()

    def _sizes(self) -> dict[str, int]:
        base = Path(self.journal.base_dir)
        return {path: (base / path).stat().st_size for path in self.journal.files()}

    def _new(self) -> Poller:
        self._before = self._sizes()
        config = PollerConfig(
            [self.source], self._handlers, self.journal, poll_interval=_INTERVAL, clock=self.clock
        )
        return Poller(config)
