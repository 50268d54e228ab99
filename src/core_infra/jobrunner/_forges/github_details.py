"""What GitHub's words about a pull request mean: checks, conversations, reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.jobrunner._forges.forge import Details, Pull, checks_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._forges import github_graphql as graphql
    from core_infra.jobrunner._signal import CheckStatus

_CONCLUSIONS: dict[str | None, CheckStatus] = {
    **dict.fromkeys(("SUCCESS", "NEUTRAL", "SKIPPED"), "SUCCESS"),
    **dict.fromkeys(
        ("FAILURE", "CANCELLED", "TIMED_OUT", "ACTION_REQUIRED", "STARTUP_FAILURE"), "FAILURE"
    ),
}
"""Neutral and skipped count as GitHub's branch protection counts them. STALE, and what a later
version adds, is PENDING."""
_STATES: dict[str, CheckStatus] = {
    "SUCCESS": "SUCCESS",
    "FAILURE": "FAILURE",
    "ERROR": "FAILURE",
}


def pull(one: graphql.Head) -> Pull:
    """A pull request."""
    default = one.repository.default_branch_ref
    return Pull(
        one.number,
        one.title,
        one.body,
        one.state,
        one.is_draft,
        one.head_ref_oid,
        one.mergeable,
        author=one.author.name if one.author else "",
        base=one.base_ref_name,
        is_default_base=default is not None and default.name == one.base_ref_name,
        is_fork=one.is_cross_repository,
        labels=tuple(label.name for label in (one.labels.each if one.labels else ())),
    )


def details(
    one: graphql.Pull,
    commit: graphql.Commit | None,
    contexts: Iterable[graphql.Context],
    threads: Sequence[graphql.Thread],
    reviews: Sequence[graphql.Review],
) -> Details:
    """The details of a pull request, with all pages of its lists."""
    every = list(contexts)
    last = list(_last_runs(every))
    checks = [(item.name or item.context, _state(item)) for item in last]
    rollup = commit.status_check_rollup if commit else None
    names, seen = checks_together(checks)
    # What cannot be seen in the list, such as a required check that has not come, counts, too.
    whole = _STATES.get(rollup.state if rollup else "", "PENDING")
    if len(last) < len(every) and whole == "FAILURE":
        whole = seen  # it may be about runs that do not count any more
    _, together = checks_together([("seen", seen), ("whole", whole)])
    approvals, unhappy = opinions(reviews)
    open_ = [thread for thread in threads if not thread.is_resolved]
    return Details(
        mergeable=one.mergeable,
        check_status=together,
        threads_total=max(one.review_threads.total_count, len(threads)),
        threads_resolved=len(threads) - len(open_),
        last_commit_at=commit.committed_date if commit else None,
        last_review_at=max(filter(None, (one.submitted_at for one in reviews)), default=None),
        threads_outdated=sum(thread.is_outdated for thread in open_),
        checks=names,
        approvals=approvals,
        changes_requested=unhappy,
    )


def opinions(reviews: Iterable[graphql.Review]) -> tuple[int, int]:
    """How many people approve, and how many want changes, by the last review of each.

    As for GitHub, only those of people who may push count: anybody may review what is public. A
    comment does not take an opinion back. Reviews of deleted accounts stay one person's each.
    """
    last: dict[object, tuple[datetime | None, str]] = {}
    for place, review in enumerate(reviews):
        is_opinion = review.state in {"APPROVED", "CHANGES_REQUESTED", "DISMISSED"}
        if not is_opinion or not review.author_can_push_to_repository:
            continue
        who = review.author.login if review.author else place
        known = last.get(who)
        if known and known[0] and review.submitted_at and review.submitted_at < known[0]:
            continue
        last[who] = (review.submitted_at, review.state)
    states = [state for _, state in last.values()]
    return states.count("APPROVED"), states.count("CHANGES_REQUESTED")


def _last_runs(contexts: Sequence[graphql.Context]) -> Iterator[graphql.Context]:
    """The checks without those of a job that ran again later for the same commit.

    Such as one that was cancelled, before the same event came once more. Of jobs with the same name
    in one run, all count.
    """
    last: dict[tuple[object, ...], datetime] = {}
    for item in contexts:
        if suite := item.check_suite:
            last[item.job] = max(last.get(item.job, suite.created_at), suite.created_at)
    for item in contexts:
        if item.check_suite is None or item.check_suite.created_at >= last[item.job]:
            yield item


def _state(item: graphql.Context) -> CheckStatus:
    if item.context:
        return _STATES.get(item.state, "PENDING")
    return _CONCLUSIONS.get(item.conclusion, "PENDING") if item.status == "COMPLETED" else "PENDING"
