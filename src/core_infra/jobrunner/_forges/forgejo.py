"""Forgejo and Gitea, by their REST API."""

from __future__ import annotations

import contextlib
import logging
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from core_infra.jobrunner._clock import Clock, SystemClock
from core_infra.jobrunner._forges import forgejo_details as details_of
from core_infra.jobrunner._forges import forgejo_rest as rest
from core_infra.jobrunner._forges import rest_answers
from core_infra.jobrunner._forges.api_client import ApiClient, api_path
from core_infra.jobrunner._forges.errors import (
    ForgeAnswerError,
    ForgeNotFoundError,
    ForgeRefusedError,
)
from core_infra.jobrunner._forges.forge import (
    Child,
    Comment,
    Details,
    Epic,
    Merge,
    Pull,
    Repo,
    Rights,
)
from core_infra.jobrunner._forges.issue_texts import closed_issues
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._signal import CheckStatus, Mergeable

_LOG = logging.getLogger(__name__)
_DRAFT = re.compile(r"^\s*(\[WIP\]|WIP:|\[draft\]|draft:)\s*", re.IGNORECASE)
"""The default marks of a draft in a title."""
_COLOR = "#0e8a16"
"""Green, for labels that the repository does not have yet."""
_PAGE = 50
_CLOSED_PAGES = 20
_FEW = 3
"""Up to so many issues are asked for one by one; more by the list of all open ones."""
_SETTLED = timedelta(minutes=1)
_SETTLED_LONG_AGO = timedelta(minutes=10)
"""How long after a change Forgejo surely has looked for conflicts."""


class Forgejo:
    """A Forgejo or Gitea server.

    Args:
        url: the address of the server.
        token: a token that may write issues and repositories.
        timeout: seconds that an answer may take.
        pause: seconds between two requests that change something.
        retry_pause: seconds before a GET without an answer is repeated.
        clock: the source of time.
        host: what signals call the server; by default its host.
    """

    def __init__(
        self,
        url: str,
        token: Secret | None,
        *,
        timeout: float = 30.0,
        pause: float = 0.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
        host: str = "",
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._api = ApiClient(
            f"{url.rstrip('/')}/api/v1",
            token,
            timeout=timeout,
            pause=pause,
            retry_pause=retry_pause,
            clock=self.clock,
            own_links=True,
        )
        self._host = host or self._api.url.host
        self._site = re.sub("^https?://", "", url.rstrip("/"))
        self._merged: dict[Repo, dict[int, rest.Pull]] = {}
        """The closed pull requests of each repository that were read before."""
        self._unmergeable: dict[tuple[Repo, int], tuple[str, datetime]] = {}
        """Since when a head cannot be merged: because of a conflict, or not looked at yet."""
        self._bases: dict[tuple[Repo, str], tuple[str, datetime]] = {}
        """The last commits of branches, and their times."""

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        return self._host

    @property
    def site(self) -> str:
        """The server as addresses of issues have it."""
        return self._site

    @property
    def url(self) -> str:
        """The address of the server's pages."""
        return f"{self._api.url.scheme}://{self._site}"

    def has_news(self, repo: Repo, reader: str = "", *, after_details: bool = False) -> bool:
        """Return True: Forgejo cannot say it without the whole answer."""
        del repo, reader, after_details
        return True

    def repositories(self, owner: str) -> Sequence[str]:
        """The names of the repositories of an organisation or user, without archived ones."""
        return self._api.repositories(rest_answers.REPOSITORIES, "", owner, limit=_PAGE)

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues that have a label."""
        found = self._api.pages(
            rest.ISSUES,
            _at(repo, "issues"),
            lenient=True,
            labels=label,
            state="open",
            type="issues",
            limit=_PAGE,
        )
        # Forgejo ignores a label that the repository does not have: the list is then of all issues.
        return [Epic(one.number, one.body or "") for one in found if label in one.label_names]

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers, with their pull requests."""
        wanted = list(dict.fromkeys(numbers))
        issues: dict[int, rest.Issue] = {}
        if len(wanted) > _FEW:
            path = _at(repo, "issues")
            issues = {
                one.number: one
                for one in self._api.pages(
                    rest.ISSUES, path, lenient=True, state="open", type="issues", limit=_PAGE
                )
            }
        for number in wanted:
            if number not in issues:
                try:
                    issues[number] = self._api.get(rest.ISSUE, _at(repo, "issues", number))
                except ForgeNotFoundError:
                    continue
                # One item must not stop the others.
                except (ForgeRefusedError, ForgeAnswerError) as error:
                    _LOG.error("%s#%d: %s", "/".join(repo), number, describe_error(error))
        children = {n: issues[n] for n in wanted if n in issues and issues[n].pull_request is None}
        pulls = self._closing(repo, children)
        return {
            number: Child(
                number,
                issue.title,
                issue.body or "",
                issue.state == "open",
                next((user.login for user in issue.assignees or ()), ""),
                tuple(pulls.get(number, ())),
                issue.label_names,
            )
            for number, issue in children.items()
        }

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """Checks and reviews of pull requests."""
        found = {}
        for pull in pulls:
            try:
                found[pull.number] = self._details(repo, pull)
            except (ForgeNotFoundError, ForgeRefusedError, ForgeAnswerError) as error:
                _LOG.error("%s#%d: %s", "/".join(repo), pull.number, describe_error(error))
        return found

    def pull(self, repo: Repo, number: int) -> tuple[Pull, Details]:
        """A pull request as it is now."""
        pull = self._pull(repo, self._api.get(rest.PULL, _at(repo, "pulls", number)))
        return pull, self._details(repo, pull)

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now."""
        found = self._api.get(rest.ISSUE, _at(repo, "issues", number))
        return Epic(number, found.body or ""), found.state == "open"

    def comments(self, repo: Repo, number: int, since: datetime | None) -> Iterator[Comment]:
        """The comments since a time."""
        path = _at(repo, "issues", number, "comments")
        query = {"since": since.strftime("%Y-%m-%dT%H:%M:%SZ")} if since else {}
        for one in self._api.get(rest_answers.COMMENTS, path, **query):
            yield Comment(one.id, one.body or "")

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        self._api.send("POST", _at(repo, "issues", number, "comments"), {"body": text})

    def edit_comment(self, repo: Repo, comment: int, text: str) -> None:
        """Replace the text of a comment."""
        self._api.send("PATCH", _at(repo, "issues", "comments", comment), {"body": text})

    def edit_body(self, repo: Repo, number: int, change: Callable[[str], str]) -> None:
        """Change an issue's text. What a person writes between the two requests is lost."""
        path = _at(repo, "issues", number)
        text = self._api.get(rest.ISSUE, path).body or ""
        if (body := change(text)) != text:
            self._api.send("PATCH", path, {"body": body})

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue."""
        self._api.send("PATCH", _at(repo, "issues", number), {"state": "closed"})

    def relabel(self, repo: Repo, number: int, add: str, remove: Collection[str]) -> None:
        """Add a label to an issue, and remove others; the repository gets the label, too."""
        issue = self._api.get(rest.ISSUE, _at(repo, "issues", number))
        if add not in issue.label_names:
            known = self._api.pages(rest.LABELS, _at(repo, "labels"), limit=_PAGE)
            if all(label.name != add for label in known):
                self._api.send("POST", _at(repo, "labels"), {"name": add, "color": _COLOR})
            path = _at(repo, "issues", number, "labels")
            self._api.send("POST", path, {"labels": [add]})
        for label in issue.labels or ():
            if label.name in remove:
                path = _at(repo, "issues", number, "labels", label.id)
                self._api.send("DELETE", path)

    def merge(self, repo: Repo, number: int, sha: str, how: Merge) -> None:
        """Merge a pull request now, only this very head."""
        # Not "merge_when_checks_succeed": that waits for the next event, and merges any head.
        change = {"Do": how.method, "head_commit_id": sha}
        self._api.send("POST", _at(repo, "pulls", number, "merge"), change)

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether it is merged."""
        return self._api.get(rest.PULL, _at(repo, "pulls", number)).merged

    def publish(self, repo: Repo, number: int) -> None:
        """Remove the mark of a draft from the title."""
        pull = self._api.get(rest.PULL, _at(repo, "pulls", number))
        title = _DRAFT.sub("", pull.title)
        if pull.draft and title and title != pull.title:
            self._api.send("PATCH", _at(repo, "pulls", number), {"title": title})

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Dismiss the requests for changes that Forgejo says are about an earlier commit."""
        for review in details_of.wanting_changes(list(self._reviews(repo, number))):
            if review.stale:
                path = _at(repo, "pulls", number, "reviews", review.id, "dismissals")
                self._api.send("POST", path, {"message": "Answered by a later commit."})

    def rights(self, repo: Repo) -> Rights:
        """What the token may do, and what the default branch requires; changes nothing."""
        found = self._api.get(rest_answers.REPOSITORY, _at(repo))
        names: tuple[str, ...] = ()
        with contextlib.suppress(ForgeNotFoundError, ForgeRefusedError):  # not protected, or hidden
            path = _at(repo, "branch_protections", found.default_branch)
            names = self._api.get(rest.PROTECTION, path).names
        may_write = not found.archived and bool(found.permissions and found.permissions.push)
        return Rights(may_write, found.methods, found.default_branch, names)

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        twin = type(self).__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_api": self._api.rehearsing(steps)}
        return twin

    def _closing(self, repo: Repo, wanted: Iterable[int]) -> dict[int, list[Pull]]:
        """The pull requests that close each issue: the open ones, and those that are merged."""
        found: dict[int, list[Pull]] = {}
        missing = set(wanted)
        if not missing:
            return found
        path = _at(repo, "pulls")
        for one in self._api.pages(rest.PULLS, path, lenient=True, state="open", limit=_PAGE):
            for number in self._closes(repo, one) & missing:
                found.setdefault(number, []).append(self._pull(repo, one))
        missing -= found.keys()
        if missing:
            for one in self._closed(repo):
                for number in self._closes(repo, one) & missing if one.merged else ():
                    found.setdefault(number, []).append(self._pull(repo, one))
        return found

    def _closed(self, repo: Repo) -> Iterable[rest.Pull]:
        """The closed pull requests; what was read before is read only as far as it has changed."""
        known = self._merged.setdefault(repo, {})
        path = _at(repo, "pulls")
        for place, one in enumerate(
            self._api.pages(
                rest.PULLS,
                path,
                lenient=True,
                limit_pages=_CLOSED_PAGES,
                state="closed",
                sort="recentupdate",
                limit=_PAGE,
            )
        ):
            # A whole page that is as it was: so are all later ones.
            if known.get(one.number) == one and place >= _PAGE:
                break
            known[one.number] = one
        return known.values()

    def _closes(self, repo: Repo, one: rest.Pull) -> set[int]:
        """The issues that merging it closes: only into the default branch."""
        if not details_of.is_to_default(one):
            return set()
        return closed_issues(one.body or "", repo, self.site)

    def _pull(self, repo: Repo, one: rest.Pull) -> Pull:
        return details_of.pull(one, self._mergeable(repo, one))

    def _mergeable(self, repo: Repo, one: rest.Pull) -> Mergeable:
        """Whether it can be merged.

        Forgejo says no also for a draft, and while it still looks for conflicts.
        """
        key = (repo, one.number)
        if one.mergeable or one.state != "open":
            self._unmergeable.pop(key, None)
            return "MERGEABLE" if one.mergeable else "UNKNOWN"
        if one.draft:
            return "UNKNOWN"
        now = self.clock.now()
        sha, since = self._unmergeable.get(key, ("", now))
        if sha != one.head.sha:
            since = now
            self._unmergeable[key] = (one.head.sha, now)
        is_settled = now - since >= _SETTLED or self._is_old(repo, one)
        return "CONFLICTING" if is_settled else "UNKNOWN"

    def _is_old(self, repo: Repo, one: rest.Pull) -> bool:
        """Whether neither it nor its base has changed of late."""
        long_ago = self._api.forge_time() - _SETTLED_LONG_AGO
        if one.updated_at is None or one.updated_at > long_ago:
            return False
        # All pull requests are looked at again when their base moves, which is no change of them.
        base = one.base
        if base is None or not base.sha:
            return True
        sha, then = self._bases.get((repo, base.ref), ("", long_ago))
        if sha != base.sha:
            try:
                found = self._api.get(rest.COMMIT, _at(repo, "git", "commits", base.sha))
            except (ForgeNotFoundError, ForgeRefusedError, ForgeAnswerError):
                return False
            then = found.commit.committer.date
            self._bases[repo, base.ref] = (base.sha, then)
        return then <= long_ago

    def _details(self, repo: Repo, pull: Pull) -> Details:
        commit = self._api.get(rest.COMMIT, _at(repo, "git", "commits", pull.sha))
        reviews = list(self._reviews(repo, pull.number))
        return details_of.details(pull, commit, self._checks(repo, pull.sha), reviews)

    def _checks(self, repo: Repo, sha: str) -> Iterator[tuple[str, CheckStatus]]:
        """The checks of a commit, of all pages."""
        path = _at(repo, "commits", sha, "status")
        seen = 0
        for page in range(1, _CLOSED_PAGES + 1):
            found = self._api.get(rest.STATUSES, path, page=page, limit=_PAGE)
            yield from details_of.checks(found)
            seen += len(found.statuses or ())
            if not found.statuses or seen >= found.total_count:
                return
        yield "more checks than can be read", "PENDING"

    def _reviews(self, repo: Repo, number: int) -> Iterator[rest.Review]:
        return self._api.pages(rest.REVIEWS, _at(repo, "pulls", number, "reviews"), limit=_PAGE)


def _at(repo: Repo, *parts: object) -> str:
    return api_path("repos", *repo, *parts)
