"""The lines of a journal, put together to actions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from core_infra.jobrunner._journal.entry import Entry, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclasses.dataclass(slots=True)
class Action:
    """One action: what all its lines say together.

    Attributes:
        begun: its first line.
        last: its last line.
        attempts: how often it was begun.
    """

    begun: Entry
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
        return f"{self.begun.owner}/{self.begun.name}#{self.number}"

    @property
    def number(self) -> int:
        """The number of the pull request, the child or the epic."""
        return self.begun.pr or self.begun.child or self.begun.epic

    @property
    def ended(self) -> datetime:
        """When its last line was written."""
        return self.last.ts


def actions(entries: Iterable[Entry]) -> list[Action]:
    """Put lines together; in the order in which the actions were last heard of."""
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
