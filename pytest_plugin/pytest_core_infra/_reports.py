"""Reports of failed tests: tracebacks end in the user's code, and errors of our hooks are shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

# A test's replacement of a function may call pytest.fail(), which does not raise an Exception.
FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


def guarded(report: pytest.TestReport, what: str, job: Callable[[], object]) -> bool:
    """Do a part of making a report; an error becomes a section of it and does not end the run.

    Args:
        report: the report.
        what: what is done, as it continues "could not".
        job: does it.

    Returns:
        Whether it was done.
    """
    try:
        job()
    except FAILURES as error:
        text = f"could not {what}: {type(error).__name__}: {error}"
        report.sections.append(("core_infra", text))
        return False
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End tracebacks and ``--pdb`` in the test or fixture that called the library.

    ``--full-trace`` shows the library's frames.
    """
    # A library that is not imported has no frames.
    if item.config.getoption("fulltrace") or "core_infra" not in sys.modules:
        return (yield)
    given = call.excinfo
    is_cut = given is not None and _cut(given)
    report = yield
    guarded(
        report,
        "shorten the traceback",
        lambda: _shorten(item, call, report, given, is_cut=is_cut),
    )
    return report


def _shorten(
    item: pytest.Item,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    given: pytest.ExceptionInfo[BaseException] | None,
    *,
    is_cut: bool,
) -> None:
    if call.excinfo is None:
        return
    if call.excinfo is not given:  # of a unittest.TestCase, which sets it later
        is_cut = _cut(call.excinfo)
        if report.failed and is_cut:
            report.longrepr = item.repr_failure(call.excinfo)
    if report.failed:
        short = _filter().shortened(call.excinfo, item.config)
        if short is not None:
            report.longrepr = short
        elif is_cut:
            report.sections.append(
                ("core_infra", "Its own frames are left out: --full-trace shows them.")
            )


def _cut(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    try:
        return bool(_filter().cut(excinfo))
    except FAILURES:
        return False


def _filter() -> ModuleType:
    from pytest_core_infra import _traceback_filter  # noqa: PLC0415 - only after a failure

    return _traceback_filter
