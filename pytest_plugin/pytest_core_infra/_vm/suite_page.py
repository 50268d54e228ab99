"""The page of a run (``--core-vm-report``): its tests, their machines, and when each worker ran."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import Path, os
from core_infra.vm._capsule.page import filled

if TYPE_CHECKING:
    import pytest

_PROPERTY = "core_vm_"
_LONGEST = 20_000


class SuitePage:
    """Collects the reports of a run, of all workers of pytest-xdist, and writes the page.

    Args:
        path: the page; replaced if it exists.
        facts: what the machines of the run are, in lines.
    """

    def __init__(self, path: Path, facts: list[str]) -> None:
        self._path = path
        self._facts = facts
        self._tests: dict[tuple[str, str], dict[str, Any]] = {}
        self._problem = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test."""
        worker = str(getattr(report, "worker_id", "main"))
        test = self._tests.setdefault(
            (worker, report.nodeid),
            {"name": report.nodeid, "worker": worker, "outcome": "passed", "phases": []},
        )
        began = report.start
        if test["phases"] and test["phases"][-1][0] == "teardown":  # it was run again
            test |= {"outcome": "passed", "phases": []}
            test.pop("error", None)
        test["phases"].append([report.when, began, report.duration, report.outcome])
        if report.outcome != "passed" and test["outcome"] != "failed":
            test["outcome"] = report.outcome
            if report.failed:
                test["error"] = report.longreprtext[-_LONGEST:]
        for key, value in report.user_properties:
            if key.startswith(_PROPERTY):
                test[key.removeprefix(_PROPERTY)] = value
        if capsule := test.get("capsule"):
            # Relative, so that both can be moved together, as a CI's artifact is.
            test["capsule"] = os.path.relpath(capsule, self._path.parent)

    def pytest_sessionfinish(self) -> None:
        """Write the page; it appears whole."""
        template = Path(__file__).with_name("suite.html")
        text = filled(template, {"facts": self._facts, "tests": list(self._tests.values())})
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text, encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            self._problem = error.strerror or str(error)
            with contextlib.suppress(OSError):
                part.unlink()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show where it is."""
        if self._problem:
            line = f"the report {self._path} could not be written: {self._problem}"
        else:
            line = f"report: {self._path}"
        terminalreporter.write_line(f"core_vm: {line}")
