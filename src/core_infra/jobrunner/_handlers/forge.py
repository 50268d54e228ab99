"""What is done on a forge."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from core_infra.jobrunner._forges.forge import Repo
from core_infra.jobrunner._sources.checklist import boxes, tick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.jobrunner._forges.forge import Forge
    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


class ForgeHandler:
    """What is common to them: each acts on the signals of its own forge only.

    A subclass says what it wants (:meth:`wants`) and how it acts (:meth:`act`), in a way that does
    no harm when it is done a second time after a crash.

    Args:
        forge: where it acts.
        name: of the action; by default the class's.
    """

    NAME = ""

    def __init__(self, forge: Forge, *, name: str = "") -> None:
        self._forge = forge
        self.name = name or self.NAME

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether to act on a signal of this forge."""
        raise NotImplementedError

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Act."""
        raise NotImplementedError

    def match(self, signal: PipelineSignal) -> bool:
        """Tell whether to act on a signal."""
        return signal.forge == self._forge.host and self.wants(signal)

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Say that doing it once more does no harm."""
        del signal, job
        return False

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Act."""
        self.act(self._forge, _repo(signal), signal, job)
        return job.done()

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """Tell each request that would change something."""
        steps: list[str] = []
        self.act(self._forge.rehearsing(steps), _repo(signal), signal, job)
        return steps


class EnableAutoMerge(ForgeHandler):
    """Squashes a pull request as soon as all is in order: it is open, no draft, has no conflict,
    green checks and no open conversation.
    """  # noqa: D205 - one sentence

    NAME = "enable_auto_merge"

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether all is in order; once for each commit."""
        return (
            _is_open(signal)
            and not signal.is_draft
            and signal.mergeable == "MERGEABLE"
            and signal.check_status == "SUCCESS"
            and not signal.has_unresolved_threads
        )

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Tell whether it is merged, or will be."""
        del job
        return self._forge.is_merging(_repo(signal), signal.pr_number)

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Have it merged, unless somebody has pushed since."""
        del job
        forge.merge_when_ready(repo, signal.pr_number, signal.last_commit_sha)


class PublishDraft(ForgeHandler):
    """Makes a draft ready for review, once its checks are green."""

    NAME = "publish_draft"

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether it is a draft with green checks; once for each commit."""
        return _is_open(signal) and signal.is_draft and signal.check_status == "SUCCESS"

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Publish it, if it still is a draft."""
        del job
        forge.publish(repo, signal.pr_number)


class SettleReviews(ForgeHandler):
    """Resolves open conversations (on Forgejo: dismisses requests for changes) that were answered
    by a commit.
    """  # noqa: D205 - one sentence

    NAME = "resolve_threads"

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether the last commit is younger than the last review; once for each commit."""
        return (
            _is_open(signal)
            and signal.has_unresolved_threads
            and signal.last_commit_at is not None
            and signal.last_review_at is not None
            and signal.last_commit_at > signal.last_review_at
        )

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Settle those that are open."""
        del job
        forge.settle_reviews(repo, signal.pr_number)


class ResolveThreads(SettleReviews):
    """Resolves the open conversations of a pull request that were answered by a commit."""


class DismissReviews(SettleReviews):
    """Dismisses requests for changes that were answered by a commit."""

    NAME = "dismiss_reviews"


class CommentHandler(ForgeHandler):
    """Posts one comment, which it finds again by a marker that readers do not see."""

    def say(self, forge: Forge, repo: Repo, number: int, text: str, job: Job) -> None:
        """Comment, unless an earlier attempt has."""
        if job.attempt == 1 or not self._said(repo, number, job):
            forge.comment(repo, number, f"{text}\n\n{job.marker}")

    def _said(self, repo: Repo, number: int, job: Job) -> bool:
        # A little earlier: the forge's clock may be behind ours.
        since = job.first_tried - timedelta(minutes=10)
        return any(job.marker in text for text in self._forge.comments(repo, number, since))


class SendFixCommand(CommentHandler):
    """Asks in a comment on the pull request for what keeps it from being merged to be fixed.

    Args:
        forge: where it acts.
        conflict: what it says about a conflict.
        reviews: what it says about open conversations together with failing checks.
        name: of the action.
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
        """Tell whether there is something to fix; once for each commit."""
        return _is_open(signal) and (
            signal.mergeable == "CONFLICTING"
            or (signal.has_unresolved_threads and signal.check_status == "FAILURE")
        )

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Comment on the pull request."""
        text = self._conflict if signal.mergeable == "CONFLICTING" else self._reviews
        self.say(forge, repo, signal.pr_number, text, job)


class TickParent(ForgeHandler):
    """Ticks the box of a child whose pull request is merged, and closes the child."""

    NAME = "tick_parent"

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether the pull request is merged; signals are about boxes that are not ticked."""
        return signal.pr_state == "MERGED" and signal.epic_number > 0 and signal.child_number > 0

    def touches(self, signal: PipelineSignal) -> Sequence[int]:
        """The epic: two boxes that are ticked at once would be one."""
        return [signal.epic_number]

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Tick the box in the text as it is now, and close the child."""
        del job
        epic, _ = forge.epic(repo, signal.epic_number)
        body = tick(epic.body, signal.child_number)
        if body != epic.body:
            forge.edit_body(repo, signal.epic_number, body)
        _, is_open = forge.epic(repo, signal.child_number)
        if is_open:
            forge.close_issue(repo, signal.child_number)


class Completion(CommentHandler):
    """Closes an epic whose boxes are all ticked, and says so.

    Args:
        forge: where it acts.
        text: what it says.
        name: of the action.
    """

    NAME = "completion"

    def __init__(
        self, forge: Forge, *, text: str = "All children are done.", name: str = ""
    ) -> None:
        super().__init__(forge, name=name)
        self._text = text

    def wants(self, signal: PipelineSignal) -> bool:
        """Tell whether the signal is about an epic that is done."""
        return signal.epic_number > 0 and signal.child_number == 0 and signal.pr_number == 0

    def act(self, forge: Forge, repo: Repo, signal: PipelineSignal, job: Job) -> None:
        """Comment and close, unless somebody has added a box since."""
        epic, is_open = forge.epic(repo, signal.epic_number)
        if is_open and all(box.ticked for box in boxes(epic.body)):
            self.say(forge, repo, signal.epic_number, self._text, job)
            forge.close_issue(repo, signal.epic_number)


def _is_open(signal: PipelineSignal) -> bool:
    # Which commit it is, is part of the state: after the next one, it may be acted on again.
    return signal.pr_state == "OPEN" and bool(signal.last_commit_sha)


def _repo(signal: PipelineSignal) -> Repo:
    return Repo(signal.repo_owner, signal.repo_name)
