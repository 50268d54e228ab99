"""Forgejo and Gitea, by their REST API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from core_infra.jobrunner._forges import forgejo_rest as rest
from core_infra.jobrunner._forges.api_client import ApiClient, api_path
from core_infra.jobrunner._forges.errors import ForgeNotFoundError
from core_infra.jobrunner._forges.forge import Child, Details, Epic, Pull, Repo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._clock import Clock
    from core_infra.jobrunner._forges.endpoint import Token
    from core_infra.jobrunner._signal import CheckStatus, Mergeable, PrState

_CHECKS: dict[str, CheckStatus] = {
    "success": "SUCCESS",
    "warning": "SUCCESS",
    "failure": "FAILURE",
    "error": "FAILURE",
}
"""Everything else is PENDING, and so is a head without checks."""
_DRAFT = re.compile(r"^\s*(\[WIP\]|WIP:|\[draft\]|draft:)\s*", re.IGNORECASE)
"""The default marks of a draft in a title."""
_PAGE = 50


class Forgejo:
    """A Forgejo or Gitea server.

    Args:
        url: the address of the server.
        token: a token that may write issues and repositories.
        timeout: seconds that an answer may take.
        pause: seconds between two requests that change something.
        retry_pause: seconds before a GET without an answer is repeated.
        clock: the source of time.
    """

    def __init__(
        self,
        url: str,
        token: Token | None,
        *,
        timeout: float = 30.0,
        pause: float = 0.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        self._api = ApiClient(
            f"{url.rstrip('/')}/api/v1",
            token,
            timeout=timeout,
            pause=pause,
            retry_pause=retry_pause,
            clock=clock,
        )

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        return self._api.url.host

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues with a label."""
        found = self._api.pages(
            rest.ISSUES,
            _at(repo, "issues"),
            labels=label,
            state="open",
            type="issues",
            limit=_PAGE,
        )
        return [Epic(one.number, one.body or "") for one in found]

    def pulls(self, repo: Repo) -> Sequence[Pull]:
        """The open pull requests."""
        found = self._api.pages(rest.PULLS, _at(repo, "pulls"), state="open", limit=_PAGE)
        return [_pull(one) for one in found]

    def closed_pulls(self, repo: Repo) -> Sequence[Pull]:
        """The fifty pull requests that were closed or merged last."""
        path = _at(repo, "pulls")
        found = self._api.get(rest.PULLS, path, state="closed", sort="recentupdate", limit=_PAGE)
        return [_pull(one) for one in found]

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers."""
        found = {}
        for number in dict.fromkeys(numbers):
            try:
                issue = self._api.get(rest.ISSUE, _at(repo, "issues", number))
            except ForgeNotFoundError:
                continue
            if issue.pull_request is None:
                assignee = next((user.login for user in issue.assignees or ()), "")
                found[number] = Child(
                    number, issue.title, issue.body or "", issue.state == "open", assignee
                )
        return found

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """Checks and reviews of pull requests."""
        return {pull.number: self._details(repo, pull) for pull in pulls}

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now."""
        found = self._api.get(rest.ISSUE, _at(repo, "issues", number))
        return Epic(number, found.body or ""), found.state == "open"

    def comments(self, repo: Repo, number: int, since: datetime) -> Iterator[str]:
        """The comments since a time."""
        path = _at(repo, "issues", number, "comments")
        moment = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        for one in self._api.get(rest.COMMENTS, path, since=moment):
            yield one.body

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        self._api.send("POST", _at(repo, "issues", number, "comments"), {"body": text})

    def edit_body(self, repo: Repo, number: int, body: str) -> None:
        """Replace an issue's text."""
        self._api.send("PATCH", _at(repo, "issues", number), {"body": body})

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue."""
        self._api.send("PATCH", _at(repo, "issues", number), {"state": "closed"})

    def merge_when_ready(self, repo: Repo, number: int, sha: str) -> None:
        """Squash as soon as the checks have succeeded."""
        change = {"Do": "squash", "head_commit_id": sha, "merge_when_checks_succeed": True}
        self._api.send("POST", _at(repo, "pulls", number, "merge"), change)

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether it is merged; the API does not report scheduled merges."""
        return self._api.get(rest.PULL, _at(repo, "pulls", number)).merged

    def publish(self, repo: Repo, number: int) -> None:
        """Remove the mark of a draft from the title."""
        pull = self._api.get(rest.PULL, _at(repo, "pulls", number))
        title = _DRAFT.sub("", pull.title)
        if pull.draft and title and title != pull.title:
            self._api.send("PATCH", _at(repo, "pulls", number), {"title": title})

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Dismiss the reviews that request changes."""
        for review in self._reviews(repo, number):
            if review.state == "REQUEST_CHANGES" and not review.dismissed:
                path = _at(repo, "pulls", number, "reviews", review.id, "dismissals")
                self._api.send("POST", path, {"message": "Answered by a later commit."})

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        twin = type(self).__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_api": self._api.rehearsing(steps)}
        return twin

    def _details(self, repo: Repo, pull: Pull) -> Details:
        status = self._api.get(rest.STATUS, _at(repo, "commits", pull.sha, "status"))
        commit = self._api.get(rest.COMMIT, _at(repo, "git", "commits", pull.sha))
        reviews = list(self._reviews(repo, pull.number))
        wanting = [review for review in reviews if review.state == "REQUEST_CHANGES"]
        return Details(
            mergeable=pull.mergeable,
            check_status=_CHECKS.get(status.state, "PENDING"),
            threads_total=len(wanting),
            threads_resolved=sum(review.dismissed for review in wanting),
            last_commit_at=commit.commit.committer.date,
            last_review_at=max(filter(None, (one.submitted_at for one in reviews)), default=None),
        )

    def _reviews(self, repo: Repo, number: int) -> Iterator[rest.Review]:
        return self._api.pages(rest.REVIEWS, _at(repo, "pulls", number, "reviews"), limit=_PAGE)


def _at(repo: Repo, *parts: object) -> str:
    return api_path("repos", *repo, *parts)


def _pull(one: rest.Pull) -> Pull:
    state: PrState = "OPEN"
    if one.state != "open":
        state = "MERGED" if one.merged else "CLOSED"
    mergeable: Mergeable = "MERGEABLE" if one.mergeable else "CONFLICTING"
    return Pull(one.number, one.title, one.body or "", state, one.draft, one.head.sha, mergeable)
