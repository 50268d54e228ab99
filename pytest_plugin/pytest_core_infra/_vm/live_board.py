"""The board of a run on a terminal (``--core-vm-live``): running tests and their machines."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core_infra._unpatched import os, time

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from core_infra.vm._machine import Machine

_TIMES_A_SECOND = 4
_MOST = 12
"""Lines of running tests: the board must not be higher than the terminal."""


def show_board(
    config: pytest.Config, machines: Callable[[], Sequence[Machine]]
) -> LiveBoard | None:
    """Register a board, if there is a terminal for it and nothing else is printed while tests run.

    Args:
        config: the run's.
        machines: returns the machines of the test that runs in this process.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    prints = config.get_verbosity() > 0 or config.option.capture == "no"
    if reporter is None or prints or not sys.stdout.isatty():
        return None
    board = LiveBoard(reporter, machines)
    config.pluginmanager.register(board, "core_infra_live_board")
    return board


class LiveBoard:
    """Shows running tests instead of pytest's line of dots, and failed ones above the board.

    Args:
        reporter: pytest's reporter; its dots are not printed.
        machines: returns the machines of the test that runs in this process.
    """

    def __init__(
        self, reporter: pytest.TerminalReporter, machines: Callable[[], Sequence[Machine]]
    ) -> None:
        # While a test runs, pytest's capture has put a file in the place of standard output.
        self._screen = os.fdopen(os.dup(1), "w")
        self._console = Console(file=self._screen, force_terminal=True)
        self._machines = machines
        self._running: dict[str, float] = {}
        self._outcomes = {"passed": 0, "failed": 0, "skipped": 0}
        self._started = time.monotonic()
        self._total = 0
        reporter.showfspath = False
        self._live = Live(
            console=self._console,
            get_renderable=self._board,
            refresh_per_second=_TIMES_A_SECOND,
            transient=True,
            redirect_stdout=False,  # pytest captures it
            redirect_stderr=False,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Show the board while tests run."""
        self._total = session.testscollected
        self._live.start()
        try:
            return (yield)
        finally:
            self._live.stop()
            self._screen.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note how many tests there are: each worker of pytest-xdist collects all of them."""
        self._total = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Add a test."""
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Remove a test."""
        self._running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and print it if it has failed."""
        if report.failed:
            self._outcomes["failed"] += 1
            line = Text(f"FAILED {report.nodeid}", "bold red")
            crash = getattr(report.longrepr, "reprcrash", None)
            if crash is not None:
                line.append(f" - {crash.message.partition(chr(10))[0]}", "default")
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        elif report.skipped:
            self._outcomes["skipped"] += 1
        elif report.when == "call":
            self._outcomes["passed"] += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(
        self,
    ) -> Generator[None, tuple[str, str, object], tuple[str, str, object]]:
        """Keep the reporter from printing dots; it still counts."""
        category, _, _ = yield
        return category, "", ""

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger."""
        self._live.stop()

    def pytest_leave_pdb(self) -> None:
        """Return."""
        self._live.start()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Within the block, the terminal is free for others."""
        was_shown = self._live.is_started
        self._live.stop()
        try:
            yield
        finally:
            if was_shown:
                self._live.start()

    def _board(self) -> Group:
        now = time.monotonic()
        done = sum(self._outcomes.values())
        counts = ", ".join(f"{number} {name}" for name, number in self._outcomes.items() if number)
        head = Text(f"{done} of {self._total or '?'} tests  {counts}", "bold")
        head.append(f"  {now - self._started:.0f} s", "dim")
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        running = list(self._running.items())  # at once: this is another thread
        for nodeid, began in running[:_MOST]:
            table.add_row(f"{now - began:.1f} s", Text(nodeid))
        if len(running) > _MOST:
            table.add_row("", f"and {len(running) - _MOST} more")
        for machine in list(self._machines())[:_MOST]:
            table.add_row("", Text(f"  {machine.name}: {machine.status.value}", "dim"))
        return Group(head, table)
