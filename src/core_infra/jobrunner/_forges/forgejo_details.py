"""What Forgejo's words about a pull request mean: its base, checks and reviews."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core_infra.jobrunner._forges.forge import Details, Pull, checks_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.jobrunner._forges import forgejo_rest as rest
    from core_infra.jobrunner._signal import CheckStatus, Mergeable, PrState

_GHOST = -1
"""The ID of all accounts that were deleted."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_CHECKS: dict[str, CheckStatus] = {
    "success": "SUCCESS",
    "skipped": "SUCCESS",
    "failure": "FAILURE",
    "error": "FAILURE",
    "warning": "FAILURE",
}
"""Everything else is PENDING, and so is a head without checks. To Forgejo a warning is less than a
pending check: a branch that requires the check cannot be merged to."""


def pull(one: rest.Pull, mergeable: Mergeable) -> Pull:
    """A pull request."""
    state: PrState = "OPEN"
    if one.state != "open":
        state = "MERGED" if one.merged else "CLOSED"
    base = one.base
    return Pull(
        one.number,
        one.title,
        one.body or "",
        state,
        one.draft,
        one.head.sha,
        mergeable,
        author=one.user.login if one.user else "",
        base=base.ref if base else "",
        is_default_base=is_to_default(one),
        is_fork=base is not None and _is_fork(one.head, base),
        labels=tuple(label.name for label in one.labels or ()),
    )


def details(
    one: Pull,
    commit: rest.Commit,
    checks: Iterable[tuple[str, CheckStatus]],
    reviews: Sequence[rest.Review],
) -> Details:
    """The details of a pull request, with all pages of its lists."""
    wanting = wanting_changes(reviews)
    total = sum(review.state == "REQUEST_CHANGES" for review in reviews)
    names, together = checks_together(checks)
    return Details(
        mergeable=one.mergeable,
        check_status=together,
        threads_total=total,
        threads_resolved=total - len(wanting),
        last_commit_at=commit.commit.committer.date,
        last_review_at=max(filter(None, (one.submitted_at for one in reviews)), default=None),
        threads_outdated=sum(review.stale for review in wanting),
        checks=names,
        approvals=sum(review.state == "APPROVED" for review in _last(reviews)),
        changes_requested=len(wanting),
    )


def checks(page: rest.Statuses) -> Iterator[tuple[str, CheckStatus]]:
    """The names and states of the checks of a page."""
    for one in page.statuses or ():
        yield one.context, _CHECKS.get(one.status, "PENDING")


def is_to_default(one: rest.Pull) -> bool:
    """Whether it is to be merged into the default branch."""
    base = one.base
    return base is None or base.repo is None or base.repo.default_branch in {"", base.ref}


def wanting_changes(reviews: Sequence[rest.Review]) -> list[rest.Review]:
    """The requests for changes that stand."""
    return [review for review in _last(reviews) if review.state == "REQUEST_CHANGES"]


def _is_fork(head: rest.Branch, base: rest.Branch) -> bool:
    if head.repo_id or base.repo_id:
        return head.repo_id != base.repo_id
    return (head.repo.full_name if head.repo else "") != (base.repo.full_name if base.repo else "")


def _last(reviews: Sequence[rest.Review]) -> list[rest.Review]:
    """The last opinion of each reviewer; a comment does not take one back, a dismissal does.

    As for Forgejo, only those of people who may push or are named in the branch's protection count.
    """
    last: dict[object, rest.Review] = {}
    for review in sorted(reviews, key=lambda one: (one.submitted_at or _LONG_AGO, one.id)):
        if review.state in {"APPROVED", "REQUEST_CHANGES"}:
            user = review.user
            who = (user.id or user.login) if user else _GHOST
            # Of deleted accounts, each review counts.
            last[("ghost", review.id) if who == _GHOST else who] = review
    return [review for review in last.values() if review.official and not review.dismissed]
