"""The lines of a journal, grouped by action."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from core_infra.jobrunner._journal.entry import Entry, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclasses.dataclass(slots=True)
class Action:
    """One action: what all of its lines say together.

    Attributes:
        first: its first line.
        last: its last line.
        attempts: how often it was started.
    """

    first: Entry
    last: Entry
    attempts: int = 1

    @property
    def outcome(self) -> str:
        """done, failed, unknown, interrupted, withdrawn, or open if it has no end."""
        if self.last.phase is Phase.INTENT:
            return "open"
        if self.last.phase is Phase.RESULT:
            return "done" if self.last.success else "failed"
        return str(self.last.phase)

    @property
    def item(self) -> str:
        """``owner/name#number`` of the pull request, the child or the epic."""
        return f"{self.first.owner}/{self.first.name}#{self.number}"

    @property
    def number(self) -> int:
        """The number of the pull request, the child or the epic."""
        return self.first.pr or self.first.child or self.first.epic

    @property
    def ended(self) -> datetime:
        """When its last line was written."""
        return self.last.ts


def group_actions(entries: Iterable[Entry]) -> list[Action]:
    """Group lines by action; in the order of each action's last line."""
    by_id: dict[str, Action] = {}
    alone: list[Action] = []
    for entry in entries:
        if not entry.id:
            alone.append(Action(entry, entry))
        elif (known := by_id.get(entry.id)) is None:
            by_id[entry.id] = Action(entry, entry, entry.attempt)
        else:
            known.last = entry
            known.attempts = max(known.attempts, entry.attempt)
    return sorted([*by_id.values(), *alone], key=lambda action: action.ended)
