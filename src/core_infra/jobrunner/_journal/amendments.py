"""What a person decides about actions that failed: try again, take as done, or forget."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.jobrunner._journal.actions import group_actions
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._journal.index import Index

if TYPE_CHECKING:
    from core_infra.jobrunner._journal.actions import Action
    from core_infra.jobrunner._journal.journal import Journal

MARK = ".amended"
"""A running poller reads what was appended when this file changes."""
_OPEN = frozenset({"failed", "given_up", "unknown"})


def amend(journal: Journal, item: str, phase: Phase, *, action: str = "") -> list[Action]:
    """Record what a person has decided about the actions on an item.

    A running poller notices at its next cycle.

    Args:
        journal: the journal.
        item: ``owner/name#number``.
        phase: RETRY or RESOLVED, for actions that failed or whose outcome is unknown; FORGOTTEN,
            for all that have ended.
        action: the name of a handler; empty for all.

    Returns:
        The actions.

    Raises:
        StorageError: the journal cannot be read or written.
    """
    wanted = _OPEN if phase is not Phase.FORGOTTEN else _OPEN | {"done", "retry", "resolved"}
    found = [
        one
        for one in group_actions(journal.entries())
        if one.item == item
        and one.first.id
        and one.outcome in wanted
        and action in {"", one.first.action}
    ]
    now = datetime.now(UTC)
    entries = [
        dataclasses.replace(
            one.last,
            phase=phase,
            ts=now,
            signal=None,
            success=None,
            error="",
            duration_ms=0,
            attempt=one.attempts,
        )
        for one in found
    ]
    if entries:
        with Index(journal) as index:
            index.apply(entries, journal.write(entries))
        Path(journal.base_dir, MARK).write_text(now.isoformat(), "ascii")
    return found


def mark_of(base_dir: str) -> int:
    """A number that changes when a person has decided something."""
    try:
        return Path(base_dir, MARK).stat().st_mtime_ns
    except OSError:
        return 0
