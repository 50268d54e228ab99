"""Failed preparations: reported in full once, and then by a reference to that report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_core_infra._vm.evidence import Evidence, Section
    from pytest_core_infra._vm.owned_machines import OwnedMachines


class _Failure(NamedTuple):
    error: BaseException
    machine: str
    test: str
    evidence: list[Evidence]


class FailedPreparations:
    """The failed preparations of a run.

    The fixture that prepares is set up once for many tests, and pytest gives its error to each.
    """

    def __init__(self) -> None:
        self._failures: list[_Failure] = []

    def add(self, error: BaseException, machines: OwnedMachines) -> None:
        """Collect what is known of a machine, which no longer exists when that is reported."""
        if isinstance(error, Exception | pytest.fail.Exception):  # not of a test that is skipped
            test = os.environ.get("PYTEST_CURRENT_TEST", "a test")  # "test_a.py::test_one (setup)"
            names = ", ".join(machine.name for machine in machines.machines)
            self._failures.append(_Failure(error, names, test, machines.evidence()))

    def evidence(self, call: pytest.CallInfo[None]) -> tuple[list[Evidence], list[Section]]:
        """What is known of the failed preparations that made a test fail, when it is new.

        The sections refer to the reports that have it already.
        """
        found: list[Evidence] = []
        references: list[Section] = []
        if call.excinfo is None:
            return found, references
        for failure in self._failures:
            if all(failure.error is not error for error in _chain(call.excinfo.value)):
                continue
            if failure.evidence:
                found += failure.evidence
                failure.evidence.clear()
                continue
            title = f"machine {failure.machine}: its preparation failed earlier"
            references.append((title, f"its commands and console: see {failure.test}"))
        return found, references


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its causes and contexts."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or any(error is one for one in seen):
            continue
        seen.append(error)
        yield error
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
