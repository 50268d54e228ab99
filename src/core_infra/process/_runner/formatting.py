"""How results are told to a person."""

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
    """A duration as one reads it: ``7 ms``, ``1.3 s``, ``42 s``, ``3:07 min``, ``1:00:00 h``."""
    if value < 0.0995:  # noqa: PLR2004 - as each of these: what it would be rounded to
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
    """A spec's command as a shell would take it, in one line; a script may be cut short."""
    if spec.call is not None:
        return f"{getattr(spec.call, '__qualname__', spec.call)}()"
    told = shlex.join(word.strip("\n") for word in spec.argv).replace("\n", " ⏎ ")
    return told if len(told) <= _WIDTH else told[: _WIDTH - 1] + "…"


def line(result: RunResult) -> str:
    """A result in one line."""
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
    """All results in one line."""
    counts = [("passed", result.passed), ("failed", result.failed), ("skipped", result.skipped)]
    told = ", ".join(f"{count} {what}" for what, count in counts if count) or "nothing to do"
    end = ", interrupted after" if result.interrupted else " in"
    return f"{told}{end} {seconds(result.duration)}"


def failures(result: RunAllResult) -> Iterator[tuple[str, str]]:
    """For each failure, root causes first: its line, and what it wrote.

    Of an interrupted run, what the interruption itself has ended is left out.
    """
    for one in result.failures:
        if result.interrupted and one.exit_code is not None and one.exit_code < 0:
            continue
        told = [line(one)]
        told.append(f"  command: {command(one.spec)}")
        if victims := result.skipped_by(one.name):
            told.append(f"  so these did not run: {', '.join(each.name for each in victims)}")
        yield "\n".join(told), one.excerpt


def first_line(text: str) -> str:
    """What of a text fits in a line."""
    return text.partition("\n")[0]


def plan(found: RunPlan) -> Iterator[str]:
    """A plan: a line for each step, in the order in which they would start."""
    width = max((len(step.spec.name) for step in found.steps), default=0)
    known = any(step.known for step in found.steps)
    for step in found.steps:
        spec = step.spec
        about = f"{seconds(step.duration)}" if step.known else "?"
        when = f"{seconds(step.start):>9} {about:>9}  " if known else ""
        told = f"{when}{spec.name:<{width}}  {command(spec)}"
        yield told + (f"  (after {', '.join(spec.after)})" if spec.after else "")
    if known:
        yield f"about {seconds(found.duration)}; no order takes less than {seconds(found.bound)}"
