"""Formatting of results and plans for people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.process._runner.results import RunAllResult, RunResult
    from core_infra.process._runner.schedule import RunPlan
    from core_infra.process._runner.spec import RunSpec

_WIDTH = 120


def seconds(value: float) -> str:
    """Format a duration: ``7 ms``, ``1.3 s``, ``42 s``, ``3:07 min``, ``1:00:00 h``."""
    if value < 0.0995:  # noqa: PLR2004 - here and below: a bound in terms of the rounded value
        return f"{value * 1e3:.0f} ms"
    if value < 9.95:  # noqa: PLR2004
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02} h"
    return f"{minutes}:{whole % 60:02} min"


def command(spec: RunSpec) -> str:
    """Format a spec's command for a shell, in one line; a long one is truncated."""
    if spec.call is not None:
        return f"{getattr(spec.call, '__qualname__', spec.call)}()"
    text = shlex.join(word.strip("\n") for word in spec.argv).replace("\n", " ⏎ ")
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def line(result: RunResult) -> str:
    """Format a result in one line."""
    if result.skipped:
        return f"skipped  {result.name}" + (f" (needs {result.cause})" if result.cause else "")
    notes = ["up to date" if result.cached else seconds(result.duration)]
    if result.failed:
        notes.insert(0, first_line(result.reason))
    if result.failed and result.spec.allow_failure:
        notes.append("allowed to fail")
    if result.attempts > 1:
        notes.append(f"{result.attempts} attempts")
    return f"{'passed' if result.passed else 'failed':<8} {result.name} ({', '.join(notes)})"


def totals(result: RunAllResult) -> str:
    """Format the numbers of all results in one line."""
    counts = [("passed", result.passed), ("failed", result.failed), ("skipped", result.skipped)]
    text = ", ".join(f"{count} {what}" for what, count in counts if count) or "nothing to do"
    end = ", interrupted after" if result.interrupted else " in"
    return f"{text}{end} {seconds(result.duration)}"


def failures(result: RunAllResult) -> Iterator[tuple[str, str]]:
    """For each failure, root causes first: its line, and its output.

    Failures that the interruption of a run has caused are omitted.
    """
    for one in result.failures:
        if result.interrupted and one.exit_code is not None and one.exit_code < 0:
            continue
        lines = [line(one), f"  command: {command(one.spec)}"]
        if skipped := result.skipped_by(one.name):
            lines.append(f"  so these did not run: {', '.join(each.name for each in skipped)}")
        yield "\n".join(lines), one.excerpt


def first_line(text: str) -> str:
    """The first line of a text."""
    return text.partition("\n")[0]


def plan(found: RunPlan) -> Iterator[str]:
    """Format a plan: a line for each spec, in the order in which they would start."""
    width = max((len(step.spec.name) for step in found.steps), default=0)
    known = any(step.known for step in found.steps)
    for step in found.steps:
        spec = step.spec
        about = f"{seconds(step.duration)}" if step.known else "?"
        when = f"{seconds(step.start):>9} {about:>9}  " if known else ""
        text = f"{when}{spec.name:<{width}}  {command(spec)}"
        yield text + (f"  (after {', '.join(spec.after)})" if spec.after else "")
    if known:
        yield f"about {seconds(found.duration)}; no order takes less than {seconds(found.bound)}"
