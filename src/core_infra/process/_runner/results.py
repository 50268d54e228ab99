"""The results of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from core_infra.errors import TimeoutExpiredError

if TYPE_CHECKING:
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._status import Usage


@dataclass(frozen=True)
class RunResult:
    """The result of one spec.

    Attributes:
        name: of the spec.
        spec: the spec.
        exit_code: of its last attempt, minus the signal's number if a signal ended it; None if
            there is none: it was skipped, could not start, or is a call.
        duration: seconds from its first start to its last end.
        output_bytes: what its last attempt wrote to stdout and stderr, in true order; at most the
            last mebibyte.
        output_lost: how many bytes it wrote before these.
        error: why it failed, besides an exit code, or why it was skipped.
        skipped: it did not run.
        cause: if it was skipped, the name of the spec whose failure is the reason.
        attempts: how often it was tried.
        started: when it started, in seconds since the run began.
        value: the return value of its call.
        usage: processor time and memory of its last attempt, if it is a command.
        cached: it was up to date, and not run.
    """

    name: str
    spec: RunSpec
    exit_code: int | None = None
    duration: float = 0.0
    output_bytes: bytes = field(default=b"", repr=False)
    output_lost: int = 0
    error: BaseException | None = None
    skipped: bool = False
    cause: str | None = None
    attempts: int = 0
    started: float = 0.0
    value: object = None
    usage: Usage | None = None
    cached: bool = False

    @property
    def passed(self) -> bool:
        """Whether it ran and succeeded, or is up to date."""
        return not self.skipped and self.error is None and not self.exit_code

    @property
    def failed(self) -> bool:
        """Whether it ran and did not succeed."""
        return not self.skipped and not self.passed

    @property
    def output(self) -> str:
        """Its output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.output_bytes.decode(errors="replace")

    @property
    def excerpt(self) -> str:
        """Its output as it is displayed: with a note if the beginning is lost."""
        note = f"[{self.output_lost} bytes before this are not kept]\n" if self.output_lost else ""
        return note + self.output

    @property
    def reason(self) -> str:
        """A short reason why it did not pass; empty if it did."""
        if self.error is not None:
            return str(self.error) or type(self.error).__name__
        if self.exit_code and self.exit_code < 0:
            return f"ended by signal {-self.exit_code}"
        return f"exit code {self.exit_code}" if self.exit_code else ""


@dataclass(frozen=True, repr=False)
class RunAllResult:
    """The results of all specs.

    Attributes:
        results: in the order in which the specs were given.
        duration: seconds from the first start to the last end.
        interrupted: the run was stopped before everything was done.
    """

    results: tuple[RunResult, ...]
    duration: float
    interrupted: bool = False

    @cached_property
    def passed(self) -> int:
        """How many passed."""
        return sum(result.passed for result in self.results)

    @cached_property
    def failed(self) -> int:
        """How many failed, also those that were allowed to."""
        return sum(result.failed for result in self.results)

    @cached_property
    def skipped(self) -> int:
        """How many did not run."""
        return sum(result.skipped for result in self.results)

    @property
    def success(self) -> bool:
        """Whether nothing failed, not even what was allowed to."""
        return self.failed == 0

    @property
    def acceptable(self) -> bool:
        """Whether nothing failed that was not allowed to, and nothing was skipped."""
        return not self.skipped and all(
            result.passed or result.spec.allow_failure for result in self.results
        )

    @property
    def failures(self) -> list[RunResult]:
        """Failed results in the order of their ends: root causes before their consequences."""
        failed = [result for result in self.results if result.failed]
        return sorted(failed, key=lambda result: result.started + result.duration)

    def skipped_by(self, name: str) -> list[RunResult]:
        """Results of specs that were skipped because of a failed one, in the given order."""
        return [result for result in self.results if result.skipped and result.cause == name]

    def __getitem__(self, name: str) -> RunResult:
        """The result of the spec of this name; KeyError if there is none."""
        return self._by_name[name]

    def __repr__(self) -> str:
        # Shown by a failed "assert result.success", so it has the failures.
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        failures = "".join(f"; {one.name}: {one.reason}" for one in self.failures)
        return f"<RunAllResult: {counts}{failures}>"

    @cached_property
    def _by_name(self) -> dict[str, RunResult]:
        return {result.name: result for result in self.results}


class RunAllTimeoutError(TimeoutExpiredError):
    """A run did not end in time, and was stopped.

    Attributes:
        timeout: the seconds that were allowed.
        result: the results, also of what did not run.
    """

    result: RunAllResult


class RunInterruptedError(KeyboardInterrupt):
    """A run was stopped by Ctrl-C.

    It is a KeyboardInterrupt, so that code does not continue by mistake.

    Attributes:
        result: the results, also of what did not run.
    """

    def __init__(self, result: RunAllResult) -> None:
        super().__init__("the run was interrupted")
        self.result = result

    def __reduce__(self) -> tuple[type[RunInterruptedError], tuple[RunAllResult]]:
        return type(self), (self.result,)
