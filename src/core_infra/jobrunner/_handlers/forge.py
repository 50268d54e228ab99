"""Handlers that act on a forge."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from core_infra.jobrunner._forges.errors import (
    ForgeNotFoundError,
    ForgeRefusedError,
    NotNowError,
)
from core_infra.jobrunner._forges.forge import Repo, signal_fields
from core_infra.jobrunner._forges.issue_texts import in_block, is_complete, tick
from core_infra.jobrunner._handlers.merge_rules import MergeRules

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from core_infra.jobrunner._forges.forge import Forge
    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


_LAG = 600.0
"""Seconds that a copy of a forge's database may be behind."""


class ForgeHandler:
    """Base of the handlers that act on a forge, each on the signals of that forge only.

    A subclass defines which signals it acts on (:meth:`wants`) and how (:meth:`act`). It must do no
    harm if an action is repeated after a crash.

    Args:
        forge: the forge.
        name: the name of the action; by default the class's ``NAME``.
    """

    NAME = ""
    sources: Collection[str] | None = None
    """The names of the sources whose signals it sees; None for all."""
    chain = False
    """Whether handlers behind it may act on the same signals, too."""

    def __init__(self, forge: Forge, *, name: str = "") -> None:
        self._forge = forge
        self.name = name or self.NAME

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether to act on a signal of this forge."""
        raise NotImplementedError

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Perform the action."""
        raise NotImplementedError

    def match(self, signal: PipelineSignal) -> bool:
        """Whether to act on a signal."""
        return signal.forge == self._forge.host and self.wants(signal)

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Return False: repeating the action does no harm."""
        del signal, job
        return False

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Perform the action."""
        self.act(self._forge, _repo(signal), signal, job)
        return job.done()

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """List each request that would change something."""
        steps: list[str] = []
        self.act(self._forge.rehearsing(steps), _repo(signal), signal, job)
        return steps


class PullHandler(ForgeHandler):
    """Base of the handlers that act on a pull request, once whatever number of children it closes.

    Before it acts, the pull request is read again: if the handler does not want it any more, the
    action is withdrawn.
    """

    per_pull = True

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Look at the pull request as it is now, and perform the action."""
        fields = signal_fields(*forge.pull(repo, signal.pr_number))
        now = dataclasses.replace(signal, **fields)
        if now.last_commit_sha != signal.last_commit_sha or not self.wants(now):
            raise NotNowError(
                f"{self.name} leaves {signal.item} alone",
                why=self.why_not(now, signal),
            )
        self.act_on(forge, repo, now, job)

    def act_on(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Perform the action on what was read just now."""
        raise NotImplementedError

    def why_not(self, now: PipelineSignal, then: PipelineSignal) -> str:
        """What has changed since the poll."""
        changed = [name for name, value in vars(now).items() if value != getattr(then, name)]
        return f"since the poll these have changed: {', '.join(changed) or 'none'}"


class EnableAutoMerge(PullHandler):
    """Merges a pull request that is ready, by its conditions.

    Args:
        forge: the forge.
        rules: the conditions.
        name: the name of the action.
    """

    NAME = "enable_auto_merge"

    def __init__(self, forge: Forge, rules: MergeRules | None = None, *, name: str = "") -> None:
        super().__init__(forge, name=name)
        self.rules = rules or MergeRules()

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether nothing forbids it; once for each commit, and again if what is known changes."""
        return _is_open(signal) and not self.rules.obstacles(signal)

    def why_not(self, now: PipelineSignal, then: PipelineSignal) -> str:
        """What forbids it now."""
        return "; ".join(self.rules.obstacles(now)) or super().why_not(now, then)

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Whether it is merged, or in the merge queue."""
        del job
        return self._forge.is_merging(_repo(signal), signal.pr_number)

    def act_on(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Merge the head that was judged."""
        del job
        try:
            forge.merge(repo, signal.pr_number, signal.last_commit_sha, self.rules.how)
        except (ForgeRefusedError, ForgeNotFoundError):
            # Somebody else may have merged it at this moment.
            if not forge.is_merging(repo, signal.pr_number):
                raise


class PublishDraft(PullHandler):
    """Marks a draft as ready for review once its checks have passed."""

    NAME = "publish_draft"

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether it is a draft whose checks have passed; once for each commit."""
        return _is_open(signal) and signal.is_draft and signal.check_status == "SUCCESS"

    def act_on(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Mark it as ready."""
        del job
        forge.publish(repo, signal.pr_number)


class SettleReviews(ForgeHandler):
    """Resolves open conversations that the forge says are about an earlier commit.

    On Forgejo, it dismisses requests for changes.
    """

    NAME = "resolve_threads"
    per_pull = True

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether there are some; once for each commit."""
        return _is_open(signal) and signal.has_unresolved_threads and signal.threads_outdated > 0

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Resolve or dismiss those that are outdated now."""
        del job
        forge.settle_reviews(repo, signal.pr_number)


class ResolveThreads(SettleReviews):
    """Resolves open conversations of a pull request that are outdated."""


class DismissReviews(SettleReviews):
    """Dismisses requests for changes that are outdated."""

    NAME = "dismiss_reviews"


class CommentHandler(ForgeHandler):
    """Base of handlers that post one comment, and find it again by an invisible marker."""

    def say(self, forge: Forge, repo: Repo, number: int, text: str, job: Job) -> None:
        """Post a comment, unless an earlier attempt or a bot with another journal has done so."""
        comments = self._forge.comments(repo, number, None)
        if not any(job.marker in one.body for one in comments):
            forge.comment(repo, number, f"{text}\n\n{job.marker}")


class SendFixCommand(PullHandler, CommentHandler):
    """Asks in a comment on a pull request to fix what prevents its merge.

    Args:
        forge: the forge.
        conflict: the comment about a conflict.
        reviews: the comment about open conversations together with failing checks.
        name: the name of the action.
    """

    NAME = "send_fix_command"

    def __init__(
        self,
        forge: Forge,
        *,
        conflict: str = "Can you fix the merge conflict?",
        reviews: str = "Can you fix the code reviews?",
        name: str = "",
    ) -> None:
        super().__init__(forge, name=name)
        self._conflict = conflict
        self._reviews = reviews

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether there is something to fix; once for each commit."""
        return _is_open(signal) and (
            signal.mergeable == "CONFLICTING"
            or (signal.has_unresolved_threads and signal.check_status == "FAILURE")
        )

    def act_on(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Post the comment on the pull request."""
        text = self._conflict if signal.mergeable == "CONFLICTING" else self._reviews
        self.say(forge, repo, signal.pr_number, text, job)


class TickParent(ForgeHandler):
    """Ticks the box of a child whose pull request is merged, and closes the child."""

    NAME = "tick_parent"

    def __init__(self, forge: Forge, *, name: str = "") -> None:
        super().__init__(forge, name=name)
        self._ticked: dict[tuple[Repo, int], list[tuple[float, Repo, int]]] = {}

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether the pull request is merged; signals are only about boxes that are not ticked."""
        return signal.pr_state == "MERGED" and signal.epic_number > 0 and signal.child_number > 0

    def touches(self, signal: PipelineSignal) -> Sequence[int]:
        """The epic: of two boxes that are ticked at the same time, one would be lost."""
        return [signal.epic_number]

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Tick the box in the current text, and close the child."""
        del job
        there = Repo(*signal.epic_repo.split("/")) if signal.epic_repo else repo
        # A forge may answer with the text as it was before our last change.
        key = (there, signal.epic_number)
        recent = [one for one in self._ticked.get(key, ()) if one[0] > time.monotonic() - _LAG]
        recent.append((time.monotonic(), repo, signal.child_number))

        def ticked(text: str) -> str:
            for _, where, child in recent:
                text = tick(text, child, where, there, forge.site)
            return text

        forge.edit_body(there, signal.epic_number, ticked)
        if forge is self._forge:  # not in a rehearsal
            self._ticked[key] = recent
        _, is_open = forge.epic(repo, signal.child_number)
        if is_open:
            forge.close_issue(repo, signal.child_number)


class Completion(CommentHandler):
    """Closes an epic whose boxes are all ticked, with a comment.

    Args:
        forge: the forge.
        text: the comment.
        name: the name of the action.
    """

    NAME = "completion"

    def __init__(
        self, forge: Forge, *, text: str = "All children are done.", name: str = ""
    ) -> None:
        super().__init__(forge, name=name)
        self._text = text

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether the signal is about an epic whose boxes are all ticked."""
        return signal.epic_number > 0 and signal.child_number == 0 and signal.pr_number == 0

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Post the comment and close the epic, unless a box was added."""
        epic, is_open = forge.epic(repo, signal.epic_number)
        if is_open and is_complete(epic, repo, forge.site):
            self.say(forge, repo, signal.epic_number, self._text, job)
            forge.close_issue(repo, signal.epic_number)


class AgentCompletion(CommentHandler):
    """Labels a child, and comments on it, when an agent reports that it has ended its work.

    The reports are signals of the type ``agent_completion``, from any source.

    Args:
        forge: the forge.
        repos: the repositories whose children it labels; by default all.
        name: the name of the action.

    Attributes:
        COMPLETED, FAILED, IN_PROGRESS: the labels; the last one is removed.
    """

    NAME = "agent_completion"
    COMPLETED = "agent-completed"
    FAILED = "agent-failed"
    IN_PROGRESS = "in-progress"

    def __init__(
        self, forge: Forge, *, repos: Collection[Repo] | None = None, name: str = ""
    ) -> None:
        super().__init__(forge, name=name)
        self._repos = repos

    def wants(self, signal: PipelineSignal) -> bool:
        """Whether it is an agent's report; acts once for each that says something else."""
        is_ours = self._repos is None or _repo(signal) in self._repos
        is_report = signal.type == self.NAME and signal.child_number > 0
        # All of the report is read: it is the state that is acted on.
        return is_report and is_ours and bool(self._labels_and_text(signal))

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Label the child, and post what the agent reports."""
        label, other, text = self._labels_and_text(signal)
        forge.relabel(repo, signal.child_number, label, (other, self.IN_PROGRESS))
        if text:
            self.say(forge, repo, signal.child_number, in_block(text), job)

    def _labels_and_text(self, signal: PipelineSignal) -> tuple[str, str, str]:
        if signal.success:
            return self.COMPLETED, self.FAILED, signal.message
        parts = ("The agent has failed.", signal.error, signal.message)
        return self.FAILED, self.COMPLETED, "\n\n".join(filter(None, parts))


def _is_open(signal: PipelineSignal) -> bool:
    # The commit is part of the state: after the next one, the handler may act again.
    return signal.pr_state == "OPEN" and bool(signal.last_commit_sha)


def _repo(signal: PipelineSignal) -> Repo:
    return Repo(signal.repo_owner, signal.repo_name)
