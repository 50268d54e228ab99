"""Tracebacks and ``--pdb`` end in the frame of the test or fixture that called the library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pytest_core_infra._guard import FAILURES, guarded

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Cut what failed in the library off there; ``--full-trace`` shows it."""
    # What has not been loaded has no frames.
    if item.config.getoption("fulltrace") or "core_infra" not in sys.modules:
        return (yield)
    given = call.excinfo
    is_cut = given is not None and _cut(given)
    report = yield
    guarded(
        report,
        "shorten the traceback",
        lambda: _shorten_report(item, call, report, given, is_cut=is_cut),
    )
    return report


def _shorten_report(
    item: pytest.Item,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    given: pytest.ExceptionInfo[BaseException] | None,
    *,
    is_cut: bool,
) -> None:
    if call.excinfo is None:
        return
    if call.excinfo is not given:  # that of a unittest.TestCase, known only now
        is_cut = _cut(call.excinfo)
        if report.failed and is_cut:
            report.longrepr = item.repr_failure(call.excinfo)
    if report.failed:
        short = _shorten().shortened(call.excinfo, item.config)
        if short is not None:
            report.longrepr = short
        elif is_cut:
            report.sections.append(
                ("core_infra", "Its own frames are left out: --full-trace shows them.")
            )


def _cut(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    try:
        return bool(_shorten().cut(excinfo))
    except FAILURES:
        return False


def _shorten() -> ModuleType:
    from pytest_core_infra import _traceback_filter  # noqa: PLC0415 - who fails pays for it

    return _traceback_filter
