"""Failed tests as annotations of GitHub Actions, which shows them at the lines of a change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_MOST = 4000
"""Characters of a message; GitHub shows about as many."""

_STEPS = 15


def annotate(terminal: pytest.TerminalReporter) -> None:
    """Write a line for each failed test with machines, if GitHub Actions runs the tests."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for kind in ("failed", "error"):
        for report in terminal.stats.get(kind, ()):
            steps = [text for title, text in report.sections if title.startswith("core_vm: the te")]
            if steps:
                terminal.write_line(_annotation(report, steps[0]))


def _annotation(report: pytest.TestReport, steps: str) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    path, line, message = report.location[0], (report.location[1] or 0) + 1, report.longreprtext
    if crash is not None:
        path, line, message = crash.path, crash.lineno, crash.message
    text = "\n".join([message, "", *steps.splitlines()[-_STEPS:], *_capsules(report)])
    where = f"file={_property(_relative(path))},line={line},title={_property(report.nodeid)}"
    return f"::error {where}::{_escaped(text[:_MOST])}"


def _capsules(report: pytest.TestReport) -> Iterator[str]:
    for title, text in report.sections:
        if title == "core_vm: capsule":
            yield from ("", text)


def _relative(path: str) -> str:
    workspace = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    whole = Path.cwd() / path
    return str(whole.relative_to(workspace)) if whole.is_relative_to(workspace) else str(whole)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
