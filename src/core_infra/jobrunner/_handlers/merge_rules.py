"""The conditions of a merge."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import TYPE_CHECKING

from core_infra._wording import count
from core_infra.errors import InvalidError
from core_infra.jobrunner._forges.forge import Merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.jobrunner._forges.forge import MergeMethod
    from core_infra.jobrunner._signal import PipelineSignal

_HOLD = (
    *("hold", "do not merge", "do-not-merge", "do-not-merge/*", "dnm"),
    *("wip", "work in progress", "work-in-progress", "blocked"),
)
_UNFINISHED = re.compile(r"^\s*[\[(]?\s*(wip|draft|do not merge|dnm)\b", re.IGNORECASE)
METHODS = ("squash", "merge", "rebase", "queue")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeRules:
    """What a pull request must be to be merged.

    Always: it is open, not a draft (also not by its title), without a conflict, without an open
    conversation, and no reviewer's last review wants changes. Patterns are those of file names
    (``release/*``); labels are compared without case.

    Attributes:
        checks: the names of the checks that must have succeeded; others do not count then. By
            default all checks of the commit, and at least one.
        no_checks: whether a commit without any check may be merged.
        approvals: how many reviewers must approve of it.
        base: patterns of the branches that it may be merged into; by default only the default
            branch.
        authors: patterns of the users whose pull requests are merged; by default everybody's. An
            app of GitHub is called ``renovate[bot]``, which no user can be; ``renovate`` is both.
        forks: whether its head may be in another repository, where people without the right to
            write to this one push.
        labels: patterns; for each there must be a label.
        without_labels: patterns that no label may match.
        method: ``squash``, ``merge``, ``rebase``, or ``queue`` for GitHub's merge queue.
        update: whether a branch that is behind its base is updated, if the forge demands that.

    Raises:
        InvalidError: a value cannot be used.
    """

    checks: Sequence[str] = ()
    no_checks: bool = False
    approvals: int = 0
    base: Sequence[str] = ()
    authors: Sequence[str] = ()
    forks: bool = False
    labels: Sequence[str] = ()
    without_labels: Sequence[str] = _HOLD
    method: MergeMethod = "squash"
    update: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidError(
                f"a pull request cannot be merged by {self.method!r:.80}",
                todo=f"Give one of: {', '.join(METHODS)}.",
            )
        for name in ("checks", "base", "authors", "labels", "without_labels"):
            if isinstance(getattr(self, name), str):
                raise InvalidError(f"{name} is {getattr(self, name)!r:.80}", todo="Give a list.")

    @property
    def how(self) -> Merge:
        """How the forge is to merge it."""
        return Merge(self.method, update=self.update, any_check=bool(self.checks))

    def obstacles(self, signal: PipelineSignal) -> list[str]:
        """What forbids to merge a pull request; empty if nothing does."""
        return list(self._obstacles(signal))

    def _obstacles(self, signal: PipelineSignal) -> Iterator[str]:
        if signal.pr_state != "OPEN" or not signal.last_commit_sha:
            yield "it is not open"
        if signal.is_draft or _UNFINISHED.match(signal.pr_title):
            yield "it is a draft"
        if signal.mergeable != "MERGEABLE":
            yield "it has a conflict" if signal.mergeable == "CONFLICTING" else "conflicts: unknown"
        yield from self._of_checks(signal)
        if signal.has_unresolved_threads:
            yield "a conversation is open"
        if signal.changes_requested:
            yield "a reviewer wants changes"
        if signal.approvals < self.approvals:
            yield f"it has {signal.approvals} of {count(self.approvals, 'approval')}"
        yield from self._of_origin(signal)

    def _of_checks(self, signal: PipelineSignal) -> Iterator[str]:
        states = dict(signal.checks)
        for name in self.checks:
            if (state := states.get(name, "PENDING")) != "SUCCESS":
                yield f"check {name}: {state}"
        is_without = self.no_checks and not states and signal.check_status != "FAILURE"
        if not self.checks and signal.check_status != "SUCCESS" and not is_without:
            yield f"checks: {signal.check_status}"

    def _of_origin(self, signal: PipelineSignal) -> Iterator[str]:
        if self.base:
            if not _matches(signal.base_branch, self.base):
                yield f"its base is {signal.base_branch}"
        elif not signal.is_default_base:
            yield f"its base is {signal.base_branch}, not the default branch"
        if signal.is_fork and not self.forks:
            yield "it comes from a fork"
        if self.authors and not _is_by(signal.author.lower(), _lower(self.authors)):
            yield f"its author is {signal.author}"
        labels = [label.lower() for label in signal.labels]
        for wanted in _lower(self.labels):
            if not any(_matches(label, [wanted]) for label in labels):
                yield f"it has no label {wanted}"
        for label in labels:
            if _matches(label, _lower(self.without_labels)):
                yield f"it has the label {label}"


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _is_by(author: str, patterns: Sequence[str]) -> bool:
    # "[bot]" is the end of the name of an app, and no set of letters.
    literal = [pattern.replace("[bot]", "[[]bot]") for pattern in patterns]
    return any(_matches(name, literal) for name in (author, author.removesuffix("[bot]")))


def _lower(texts: Sequence[str]) -> list[str]:
    return [text.lower() for text in texts]
