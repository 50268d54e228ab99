"""The texts of the plugin: the run's header and summary, and sections of failed tests' reports.

A section is a title and a text.
"""

from __future__ import annotations

import dataclasses
import shlex
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core_infra._wording import count
from core_infra.vm._hardware import NAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine

_TESTS_SHOWN = 10


def host(launcher: Launcher) -> list[str]:
    """The header of a run: hypervisor, accelerator, image and size of its machines."""
    accelerator = launcher.accelerator
    program = f"{launcher.hypervisor.name} {launcher.hypervisor.version()}"
    spec = launcher.spec("any")
    size = f"{spec.memory} MiB, {count(spec.cpus, 'cpu')}"
    processor = launcher.processor(spec)
    return [
        f"core_vm: {program}, {accelerator.name} ({accelerator.reason})",
        f"core_vm: image {spec.image.name}, {spec.image.arch}, {size}",
        *([f"core_vm: {processor}"] if processor else []),
        *(["core_vm: network nat: machines reach what this host reaches"] * (spec.network == NAT)),
        *swept(launcher),
    ]


def not_hermetic(tests: Sequence[str]) -> list[str]:
    """Lines about the tests whose machines are open to the outside."""
    if not tests:
        return []
    shown = [f"  {test}" for test in tests[:_TESTS_SHOWN]]
    more = [f"  and {len(tests) - _TESTS_SHOWN} more"] if len(tests) > _TESTS_SHOWN else []
    return [f"core_vm: {count(len(tests), 'test')} not hermetic (network=nat):", *shown, *more]


def swept(launcher: Launcher) -> list[str]:
    """A line about what this run has removed of earlier runs; none if there was nothing."""
    if not (found := launcher.run.swept):
        return []
    ended = sum(one.ended for one in found)
    machines = f", {count(ended, 'machine')} that still ran" if ended else ""
    directories = count(len(found), "director", "y", "ies")
    return [f"core_vm: removed what earlier runs left: {directories}{machines}"]


def properties(uses: Sequence[tuple[str, float]], accelerator: str) -> list[tuple[str, object]]:
    """The properties of a test in JUnit XML, given the image and the seconds of each machine."""
    return [
        ("core_vm_machines", len(uses)),
        ("core_vm_machine_seconds", f"{sum(seconds for _, seconds in uses):.3f}"),
        ("core_vm_image", ", ".join(sorted({image for image, _ in uses}))),
        ("core_vm_accelerator", accelerator),
    ]


def kept(machine: Machine) -> tuple[str, str]:
    """A section about how to enter and end a machine that is left running."""
    return f"machine {machine.name} is left running", "\n".join(ways(machine.pid))


def kept_later(machine: Machine, owner: str) -> tuple[str, str]:
    """A section about a shared machine that will be left running."""
    title = f"machine {machine.name} will be left running"
    return title, f"at the end of {owner}; the summary of the run shows how to enter it"


_FIRST_STEPS = """\
core_vm: a test with the argument core_vm gets a machine: def test_it(core_vm): core_vm.exec("ls")
core_vm: core-infra init writes a first one, and core-infra doctor shows what this host lacks"""


def ways(pid: int) -> list[str]:
    """The commands to enter and end a machine that is left running, given its process id."""
    # With this Python, because core_infra is installed there, whatever PATH is.
    vm = shlex.join([sys.executable, "-m", "core_infra", "vm"])
    return [
        f"enter it: {vm} console {pid}",
        f"run in it: {vm} exec {pid} COMMAND",
        f"end it:   kill {pid}",
    ]


@dataclass
class RunSummary:
    """The machines of a run, summed over the workers of pytest-xdist.

    Attributes:
        requested: how many machines were requested, for tests or preparations.
        unprepared: how many preparations failed.
        boots: the seconds that each machine took to start.
        open: how many machines could reach the outside.
        notes: messages that workers of pytest-xdist could not show while tests ran.
        kept: the test, name and process id of each machine that is left running.
    """

    requested: int = 0
    unprepared: int = 0
    boots: list[float] = field(default_factory=list)
    open: int = 0
    notes: list[str] = field(default_factory=list)
    kept: list[tuple[str, str, int]] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """The summary in types that pytest-xdist can send."""
        return dataclasses.asdict(self)

    def add(self, data: dict[str, Any]) -> None:
        """Add the summary of another process, from its :meth:`as_data`."""
        self.requested += data["requested"]
        self.unprepared += data["unprepared"]
        self.boots += data["boots"]
        self.open += data["open"]
        self.notes += [note for note in data["notes"] if note not in self.notes]
        self.kept += data["kept"]

    def write(self, terminal: pytest.TerminalReporter, accelerator: str) -> None:
        """Write the summary to the terminal."""
        if self.kept:
            terminal.write_sep("=", "machines left running")
        for nodeid, name, pid in self.kept:
            terminal.write_line(f"{name} of {nodeid}")
            for way in ways(pid):
                terminal.write_line(f"  {way}")
        for note in self.notes:
            terminal.write_line(f"core_vm: {note}")
        terminal.write_line(f"core_vm: {self._sentence(accelerator)}")
        if not terminal.stats:  # not a single test, not even a deselected one
            terminal.write_line(_FIRST_STEPS)

    def _sentence(self, accelerator: str) -> str:
        failed = ""
        if self.unprepared:
            failed = f"; {count(self.unprepared, 'preparation')} failed"
        if not self.boots:
            none = "no test got a machine" if self.requested else "no test asked for a machine"
            return none + failed
        median = statistics.median(self.boots)
        machines = count(len(self.boots), "machine")
        reach = f"; {self.open} not hermetic (network=nat)" if self.open else ""
        return f"{machines}, started in {median:.2f} s (median), {accelerator}{reach}{failed}"
