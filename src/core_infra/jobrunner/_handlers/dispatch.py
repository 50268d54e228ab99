"""Passes children that need coding to their assignees."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING

from core_infra.jobrunner._journal.paths import safe_name
from core_infra.jobrunner._signal import stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal
    from core_infra.medium._medium import Medium

_FOLDERS = ("", "active", "done")


class Dispatch:
    """Puts a ticket into the queue of the assignee: ``queue/ASSIGNEE/OWNER%2FREPO%2FCHILD.json``.

    A child has at most one ticket. To work on a ticket, move it to the folder ``active`` beside it,
    and afterwards to ``done``; it is still found there. After a crash, a ticket that was deleted
    may be written again.

    Args:
        medium: the file system of the queues.
        path: the directory with a queue for each assignee.
        name: the name of the action.
        chain: whether handlers behind it may act on the same signals, too.
        agents: the assignees that have a queue; by default everybody.
        target_branch: the branch that the work is for, as the ticket has it; empty for the default
            branch.
    """

    def __init__(
        self,
        medium: Medium,
        path: str,
        *,
        name: str = "dispatch",
        chain: bool = False,
        agents: Collection[str] = (),
        target_branch: str = "",
    ) -> None:
        self.chain = chain
        self._agents = frozenset(agents)
        self._target_branch = target_branch
        self._medium = medium
        self._path = path
        self.name = name

    def match(self, signal: PipelineSignal) -> bool:
        """Whether the child needs coding and has an assignee with a queue."""
        is_known = not self._agents or signal.assignee in self._agents
        return signal.needs_coding and bool(signal.assignee) and is_known

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Whether the child has a ticket, in any folder."""
        del job
        return any(self._medium.exists(self._ticket(signal, folder)) for folder in _FOLDERS)

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Write the ticket, unless it exists."""
        if not self.happened(signal, job):
            ticket = {
                "id": job.id,
                "forge": signal.forge,
                "forge_url": signal.forge_url,
                "repo_owner": signal.repo_owner,
                "repo_name": signal.repo_name,
                "epic": signal.epic_number,
                "child": signal.child_number,
                "assignee": signal.assignee,
                "target_branch": self._target_branch,
                "title": signal.issue_title,
                "body": signal.issue_body,
                "created_at": stamp(job.first_tried),
            }
            text = json.dumps(ticket, indent=2) + "\n"
            self._medium.write_text(self._ticket(signal), text)
        return job.done()

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """List the file."""
        there = self.happened(signal, job)
        return [] if there else [f"write the ticket {self._ticket(signal)}"]

    def _ticket(self, signal: PipelineSignal, folder: str = "") -> str:
        item = f"{signal.repo_owner}/{signal.repo_name}/{signal.child_number}"
        if signal.forge:
            item = f"{signal.forge}/{item}"
        queue = posixpath.join(self._path, safe_name(signal.assignee, "assignee", hidden=False))
        return posixpath.join(queue, folder, f"{safe_name(item, 'item')}.json")
