"""An HTML page that shows a journal: one file without external resources."""

from __future__ import annotations

import html
import re
import statistics
import string
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING

from core_infra._wording import count
from core_infra.jobrunner._journal.actions import Action, group_actions
from core_infra.jobrunner._signal import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from core_infra.jobrunner._journal.entry import Entry
    from core_infra.jobrunner._journal.journal import FileCheck

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_OUTCOMES = ("done", "failed", "unknown", "open", "interrupted", "withdrawn")
_DAYS = 60


def html_report(
    entries: Iterable[Entry], checks: Sequence[FileCheck], *, now: datetime, limit: int = 2000
) -> str:
    """Make an HTML page that shows a journal: one file without external resources.

    Args:
        entries: the entries of the journal.
        checks: the result of :meth:`Journal.verify`.
        now: the current time.
        limit: how many actions are listed at most, the latest; the numbers count all.
    """
    found = group_actions(entries)
    shown = found[: -limit - 1 : -1]
    rest = f"The latest {len(shown)} of {len(found)}." if len(shown) < len(found) else ""
    page = _template().substitute(
        now=html.escape(stamp(now)[:16].replace("T", " ")),
        numbers=_numbers(found),
        chain=_chain(checks),
        days=_days(found),
        handlers="".join(_handlers(found)),
        rows="".join(_row(action) for action in shown),
        rest=rest or ("" if found else "Nothing was done yet."),
    )
    # JSON may have half a character, which no page can have.
    return page.encode("utf-8", "replace").decode()


def _template() -> string.Template:
    text = (
        resources.files("core_infra.jobrunner._journal")
        .joinpath("html_report.html")
        .read_text("utf-8")
    )
    return string.Template(text)


def _numbers(found: Sequence[Action]) -> str:
    counts = Counter(action.outcome for action in found)
    return "".join(
        f'<button class="{name}" data-outcome="{name}" aria-pressed="false">'
        f"<b>{counts[name]}</b>{name}</button>"
        for name in _OUTCOMES
        if counts[name] or name in {"done", "failed"}
    )


def _chain(checks: Sequence[FileCheck]) -> str:
    wrong = [check for check in checks if check.tampered]
    if not wrong:
        lines = count(sum(check.entries for check in checks), "line")
        files = count(len(checks), "file")
        return f'<p class="chain">{lines} in {files}; every chain holds.</p>'
    names = "".join(
        f"<li>{html.escape(check.path)}, line {check.breaks[0].line}</li>" for check in wrong
    )
    return f'<div class="chain broken">Changed after they were written:<ul>{names}</ul></div>'


def _days(found: Sequence[Action]) -> str:
    """A bar for each day with actions, the latest at the right."""
    by_day: dict[str, Counter[str]] = {}
    for action in found:
        by_day.setdefault(stamp(action.ended)[:10], Counter())[action.outcome] += 1
    days = sorted(by_day.items())[-_DAYS:]
    most = max((counts.total() for _, counts in days), default=1)
    bars = []
    for day, counts in days:
        parts = "".join(
            f'<i class="{name}" style="height:{counts[name] / most * 100:.2f}%"></i>'
            for name in reversed(_OUTCOMES)
            if counts[name]
        )
        summary = ", ".join(f"{counts[name]} {name}" for name in _OUTCOMES if counts[name])
        bars.append(f'<div title="{day}: {summary}">{parts}</div>')
    ends = f"<span>{days[0][0]}</span><span>{days[-1][0]}</span>" if days else ""
    days_ = f'<div class="days">{"".join(bars)}</div><div class="ends">{ends}</div>'
    return f'<div class="chart" style="max-width:{len(bars) * 2.2:.1f}rem">{days_}</div>'


def _handlers(found: Sequence[Action]) -> Iterable[str]:
    by_name: dict[str, list[Action]] = {}
    for action in found:
        by_name.setdefault(action.first.action, []).append(action)
    for name, mine in sorted(by_name.items()):
        counts = Counter(action.outcome for action in mine)
        times = [action.last.duration_ms for action in mine if action.last.success is not None]
        middle = _duration(statistics.median(times)) if times else ""
        longest = _duration(max(times)) if times else ""
        other = len(mine) - counts["done"] - counts["failed"]
        cells = (counts["done"], counts["failed"], other, middle, longest)
        numbers = "".join(f"<td class=number>{cell}</td>" for cell in cells)
        yield f"<tr><td>{html.escape(name)}</td>{numbers}</tr>"


def _row(action: Action) -> str:
    first, last = action.first, action.last
    when = stamp(action.ended)
    tries = f" ({action.attempts} attempts)" if action.attempts > 1 else ""
    duration = "" if last.success is None else _duration(last.duration_ms)
    error = f"<pre>{html.escape(last.error)}</pre>" if last.error else ""
    return (
        f'<tr class="{action.outcome}" data-outcome="{action.outcome}">'
        f'<td><time datetime="{when}">{when[:19].replace("T", " ")}</time></td>'
        f"<td>{html.escape(first.action)}</td><td>{_item(action)}</td>"
        f"<td><span class=tag>{action.outcome}</span>{tries}{error}</td>"
        f"<td class=number>{duration}</td><td class=number>{last.cycle}</td></tr>\n"
    )


def _item(action: Action) -> str:
    text = html.escape(action.item)
    first = action.first
    # A link only if it surely leads to the forge: the names cannot be trusted.
    names = (first.forge, first.owner, first.name)
    if not all(_HOST.fullmatch(name.replace("_", "-")) for name in names):
        return text
    return f'<a href="https://{"/".join(names)}/issues/{action.number}" rel=noreferrer>{text}</a>'


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"  # noqa: PLR2004 - a minute
