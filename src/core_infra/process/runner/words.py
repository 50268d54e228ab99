"""How results are told to a person."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.process.runner.plan import Plan
    from core_infra.process.runner.results import RunAllResult, RunResult


def seconds(value: float) -> str:
    """A duration as one reads it: ``0.3 s``, ``42 s``, ``3:07 min``."""
    if value < 9.95:  # noqa: PLR2004 - from here on the tenth says nothing
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    rest = f"{minutes:02}:{whole % 60:02} h" if hours else f"{minutes}:{whole % 60:02} min"
    return f"{hours}:{rest}" if hours else rest


def line(result: RunResult) -> str:
    """A result in one line."""
    if result.skipped:
        return f"skipped  {result.name}" + (f" (needs {result.cause})" if result.cause else "")
    notes = [seconds(result.duration)]
    if result.failed:
        notes.insert(0, first_line(result.reason))
    if result.failed and result.spec.allow_failure:
        notes.append("allowed to fail")
    if result.attempts > 1:
        notes.append(f"{result.attempts} attempts")
    return f"{'passed' if result.passed else 'failed':<8} {result.name} ({', '.join(notes)})"


def totals(result: RunAllResult) -> str:
    """All results in one line."""
    counts = [("passed", result.passed), ("failed", result.failed), ("skipped", result.skipped)]
    told = ", ".join(f"{count} {what}" for what, count in counts if count) or "nothing to do"
    end = "interrupted after" if result.interrupted else "in"
    return f"{told} {end} {seconds(result.duration)}"


def failures(result: RunAllResult) -> Iterator[tuple[str, str]]:
    """For each failure, root causes first: its line, and what it wrote.

    Of an interrupted run, what the interruption itself has ended is left out.
    """
    for one in result.failures:
        if result.interrupted and one.exit_code is not None and one.exit_code < 0:
            continue
        told = [line(one)]
        if one.spec.call is None:
            told.append(f"  command: {shlex.join(one.spec.argv)}")
        if victims := result.skipped_by(one.name):
            told.append(f"  so these did not run: {', '.join(each.name for each in victims)}")
        yield "\n".join(told), one.output


def first_line(text: str) -> str:
    """What of a text fits in a line."""
    return text.partition("\n")[0]


def plan(found: Plan) -> Iterator[str]:
    """A plan: a line for each step, in the order in which they would start."""
    width = max((len(step.spec.name) for step in found.steps), default=0)
    known = any(step.known for step in found.steps)
    for step in found.steps:
        spec = step.spec
        about = f"{seconds(step.duration)}" if step.known else "?"
        when = f"{seconds(step.start):>9} {about:>9}  " if known else ""
        what = shlex.join(spec.argv) if spec.call is None else f"{spec.call!r}"
        told = f"{when}{spec.name:<{width}}  {what}"
        yield told + (f"  (after {', '.join(spec.after)})" if spec.after else "")
    if known:
        yield f"about {seconds(found.duration)}; no order takes less than {seconds(found.bound)}"
