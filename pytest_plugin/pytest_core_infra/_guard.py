"""What goes wrong in a hook of ours is said in the test's report, and ends no run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# A test's own stand-in for a function may raise pytest.fail(), which is no Exception.
FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


def guarded(report: pytest.TestReport, what: str, job: Callable[[], object]) -> bool:
    """Do a part of a report's making; whether it could be done.

    Args:
        report: says in a section of its own why not.
        what: is done, in words that go on after "could not".
        job: does it.
    """
    try:
        job()
    except FAILURES as error:
        text = f"could not {what}: {type(error).__name__}: {error}"
        report.sections.append(("core_infra", text))
        return False
    return True
