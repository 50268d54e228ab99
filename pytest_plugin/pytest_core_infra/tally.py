"""What a run did with machines, summed over pytest-xdist's workers, and told at its end."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_core_infra import describe

if TYPE_CHECKING:
    import pytest


@dataclass
class Tally:
    """What a run did with machines.

    Attributes:
        asked: how many machines were asked for.
        boots: seconds that each machine took to start.
        kept: test, name and process id of each machine that was left running.
    """

    asked: int = 0
    boots: list[float] = field(default_factory=list)
    kept: list[tuple[str, str, int]] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """The same in the types that pytest-xdist can send."""
        return {"asked": self.asked, "boots": self.boots, "kept": self.kept}

    def add(self, data: dict[str, Any]) -> None:
        """Add what another process did, from its :meth:`as_data`."""
        self.asked += data["asked"]
        self.boots += data["boots"]
        self.kept += data["kept"]

    def write(self, terminal: pytest.TerminalReporter, accelerator: str) -> None:
        """Tell it on the terminal."""
        if self.kept:
            terminal.write_sep("=", "machines left running")
        for nodeid, name, pid in self.kept:
            terminal.write_line(f"{name} of {nodeid}")
            for way in describe.ways(pid):
                terminal.write_line(f"  {way}")
        terminal.write_line(f"core_vm: {self._sentence(accelerator)}")

    def _sentence(self, accelerator: str) -> str:
        if not self.boots:
            return "no machine came up" if self.asked else "no test asked for a machine"
        median = statistics.median(self.boots)
        machines = describe.count(len(self.boots), "machine")
        return f"{machines}, started in {median:.2f} s (median), {accelerator}"
