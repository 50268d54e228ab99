"""What a run did with machines, summed over pytest-xdist's workers, and told at its end."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_core_infra._vm import describe

if TYPE_CHECKING:
    import pytest


@dataclass
class Tally:
    """What a run did with machines.

    Attributes:
        asked: how many machines were asked for, to be tested or prepared.
        unprepared: how many preparations failed.
        boots: seconds that each machine took to start.
        notes: what workers of pytest-xdist could not say while tests ran.
        kept: test, name and process id of each machine that was left running.
    """

    asked: int = 0
    unprepared: int = 0
    boots: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: list[tuple[str, str, int]] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """The same in the types that pytest-xdist can send."""
        return dataclasses.asdict(self)

    def add(self, data: dict[str, Any]) -> None:
        """Add what another process did, from its :meth:`as_data`."""
        self.asked += data["asked"]
        self.unprepared += data["unprepared"]
        self.boots += data["boots"]
        self.notes += [note for note in data["notes"] if note not in self.notes]
        self.kept += data["kept"]

    def write(self, terminal: pytest.TerminalReporter, accelerator: str) -> None:
        """Tell it on the terminal."""
        if self.kept:
            terminal.write_sep("=", "machines left running")
        for nodeid, name, pid in self.kept:
            terminal.write_line(f"{name} of {nodeid}")
            for way in describe.ways(pid):
                terminal.write_line(f"  {way}")
        for note in self.notes:
            terminal.write_line(f"core_vm: {note}")
        terminal.write_line(f"core_vm: {self._sentence(accelerator)}")

    def _sentence(self, accelerator: str) -> str:
        failed = ""
        if self.unprepared:
            failed = f"; {describe.count(self.unprepared, 'preparation')} failed"
        if not self.boots:
            none = "no test got a machine" if self.asked else "no test asked for a machine"
            return none + failed
        median = statistics.median(self.boots)
        machines = describe.count(len(self.boots), "machine")
        return f"{machines}, started in {median:.2f} s (median), {accelerator}{failed}"
