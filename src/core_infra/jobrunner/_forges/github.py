"""GitHub: REST where there are ETags, GraphQL for what REST does not have."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Self

from core_infra.errors import CoreInfraError
from core_infra.jobrunner._clock import Clock, SystemClock
from core_infra.jobrunner._forges import github_details as details_of
from core_infra.jobrunner._forges import github_graphql as graphql
from core_infra.jobrunner._forges import github_rest as rest
from core_infra.jobrunner._forges import rest_answers
from core_infra.jobrunner._forges.api_client import ApiClient, api_path
from core_infra.jobrunner._forges.errors import (
    ForgeAnswerError,
    ForgeNotFoundError,
    ForgeRefusedError,
    NotNowError,
)
from core_infra.jobrunner._forges.forge import Child, Comment, Epic, Merge, Repo, Rights, SubIssue
from core_infra.jobrunner._forges.graphql_client import GraphQLClient
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._forges.forge import Details, Pull
    from core_infra.jobrunner._forges.rate_limits import RateLimit

_LOG = logging.getLogger(__name__)
URL = "https://api.github.com"
_EDITS = 3
"""How often a text is written, if a person edits it each time at the same moment."""
_VERSION = "2022-11-28"
_READY = frozenset({"CLEAN", "HAS_HOOKS"})


class GitHub:
    """github.com, or a GitHub Enterprise server.

    Args:
        token: a token that may read and write issues, pull requests and contents.
        url: the address of the REST API; a server's ends in ``/api/v3``.
        timeout: seconds that an answer may take.
        pause: seconds between two requests that change something; GitHub asks for one.
        retry_pause: seconds before a GET without an answer is repeated.
        clock: the source of time.
        host: what signals call the server; by default its host.
    """

    def __init__(
        self,
        token: Secret | None,
        url: str = URL,
        *,
        timeout: float = 30.0,
        pause: float = 1.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
        host: str = "",
    ) -> None:
        self._host = host
        self.clock: Clock = clock or SystemClock()
        # A server has /api/v3 and /api/graphql.
        base = url.rstrip("/").removesuffix("/v3")
        self._rest = "/v3" if base != url.rstrip("/") else ""
        self._api = ApiClient(
            base,
            token,
            scheme="Bearer",
            # The first is in GitHub's manual, the second in its OpenAPI description.
            accept="application/vnd.github+json, application/json",
            headers={"X-GitHub-Api-Version": _VERSION},
            timeout=timeout,
            pause=pause,
            retry_pause=retry_pause,
            clock=self.clock,
        )
        self._graphql = GraphQLClient(self._api)
        self._newest: dict[Repo, bytes] = {}
        """What was last changed in a repository."""
        self._seen: dict[tuple[Repo, str], bytes] = {}
        """What that was when each reader asked."""

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        if self._host:
            return self._host
        host = self._api.url.host
        return "github.com" if host == "api.github.com" else host

    @property
    def site(self) -> str:
        """The server as addresses of issues have it."""
        url = self._api.url
        return "github.com" if url.host == "api.github.com" else url.netloc.decode()

    @property
    def limits(self) -> Sequence[RateLimit]:
        """The token's rate limits, as the last answers had them."""
        return self._api.limits

    @property
    def url(self) -> str:
        """The address of the server's pages."""
        return f"{self._api.url.scheme}://{self.site}"

    def has_news(self, repo: Repo, reader: str = "", *, after_details: bool = False) -> bool:
        """Whether an issue or pull request has changed since a reader last asked; not of checks.

        Costs nothing of the rate limit if nothing has, and no request just after :meth:`details`.
        """
        newest = self._newest.get(repo, b"")
        changed = self._graphql.changed.get(repo) if after_details else ""
        if not changed or changed != rest.changed_at(newest):
            query = {"state": "all", "sort": "updated", "direction": "desc", "per_page": 1}
            newest = self._newest[repo] = self._api.get_text(self._at(repo, "issues"), **query)
        is_new = self._seen.get((repo, reader)) != newest
        self._seen[repo, reader] = newest
        return is_new

    def repositories(self, owner: str) -> Sequence[str]:
        """The names of the repositories of an organisation or user, without archived ones."""
        return self._api.repositories(rest_answers.REPOSITORIES, self._rest, owner, per_page=100)

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues that have a label."""
        # A comma separates names, and cannot be part of one.
        query: dict[str, Any] = {} if "," in label else {"labels": label}
        path = self._at(repo, "issues")
        found = self._api.pages(
            rest.ISSUES, path, lenient=True, **query, state="open", per_page=100
        )
        epics = []
        for one in found:
            if one.pull_request is None and one.has_label(label):
                try:
                    epics.append(self._epic(repo, one))
                except (ForgeNotFoundError, ForgeRefusedError, ForgeAnswerError) as error:
                    _LOG.error("%s#%d: %s", "/".join(repo), one.number, describe_error(error))
        return epics

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers, with their pull requests."""
        found = {}
        for issue in self._graphql.each(repo, numbers, "issue", graphql.ISSUE, graphql.Issue):
            pulls = self._closing(repo, issue)
            if pulls is None:
                continue
            assignee = next((user.login for user in issue.assignees.each), "")
            found[issue.number] = Child(
                issue.number,
                issue.title,
                issue.body,
                issue.state == "OPEN",
                assignee,
                tuple(pulls),
                tuple(label.name for label in (issue.labels.each if issue.labels else ())),
            )
        return found

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """Conflicts, checks and conversations of pull requests."""
        numbers = [pull.number for pull in pulls]
        found = self._graphql.each(
            repo, numbers, "pullRequest", graphql.PULL, graphql.Pull, others=graphql.NEWEST
        )
        return {one.number: self._details(repo, one) for one in found}

    def pull(self, repo: Repo, number: int) -> tuple[Pull, Details]:
        """A pull request as it is now."""
        fields = f"{graphql.HEAD} {graphql.PULL}"
        for one in self._graphql.each(repo, [number], "pullRequest", fields, graphql.Whole):
            return details_of.pull(one), self._details(repo, one)
        raise ForgeNotFoundError(f"{'/'.join(repo)}#{number} cannot be read", status=200)

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now."""
        found = self._api.get(rest.ISSUE, self._at(repo, "issues", number))
        if found.number != number:
            raise ForgeNotFoundError(
                f"{'/'.join(repo)}#{number} cannot be used",
                why="it was transferred to another repository",
                status=200,
            )
        return self._epic(repo, found), found.state == "open"

    def comments(self, repo: Repo, number: int, since: datetime | None) -> Iterator[Comment]:
        """The comments since a time."""
        path = self._at(repo, "issues", number, "comments")
        query: dict[str, Any] = {"since": since.strftime("%Y-%m-%dT%H:%M:%SZ")} if since else {}
        for one in self._api.pages(rest_answers.COMMENTS, path, **query, per_page=100):
            yield Comment(one.id, one.body or "")

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        self._api.send("POST", self._at(repo, "issues", number, "comments"), {"body": text})

    def edit_comment(self, repo: Repo, comment: int, text: str) -> None:
        """Replace the text of a comment."""
        self._api.send("PATCH", self._at(repo, "issues", "comments", comment), {"body": text})

    def edit_body(self, repo: Repo, number: int, change: Callable[[str], str]) -> None:
        """Change an issue's text; what a person has written meanwhile is changed and written again.

        GitHub does not refuse to overwrite it, but the issue's history shows it.
        """
        path = self._at(repo, "issues", number)
        text: str | None = self._api.get(rest.ISSUE, path).body or ""
        for _ in range(_EDITS):
            if text is None or (body := change(text)) == text:
                return
            self._api.send("PATCH", path, {"body": body})
            text = None if self._api.is_rehearsal else self._overwritten(repo, number, text, body)

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue as completed."""
        change = {"state": "closed", "state_reason": "completed"}
        self._api.send("PATCH", self._at(repo, "issues", number), change)

    def relabel(self, repo: Repo, number: int, add: str, remove: Collection[str]) -> None:
        """Add a label to an issue, which GitHub makes if it must, and remove others."""
        issue = self._api.get(rest.ISSUE, self._at(repo, "issues", number))
        if not issue.has_label(add):
            path = self._at(repo, "issues", number, "labels")
            self._api.send("POST", path, {"labels": [add]})
        for name in remove:
            if issue.has_label(name):
                self._api.send("DELETE", self._at(repo, "issues", number, "labels", name))

    def merge(self, repo: Repo, number: int, sha: str, how: Merge) -> None:
        """Merge a pull request now, or put it into the merge queue; only this very head."""
        state = self._merging(repo, number)
        if how.method == "queue":
            if state.merge_queue_entry is None:
                self._graphql.mutate(graphql.ENQUEUE, id=state.id, sha=sha)
            return
        status = state.merge_state_status
        if status == "BEHIND" and how.update:
            change = {"expected_head_sha": sha}
            self._api.send("PUT", self._at(repo, "pulls", number, "update-branch"), change)
            raise NotNowError(
                f"{'/'.join(repo)}#{number} is not merged yet",
                why="its branch was behind its base, and is updated",
            )
        if status not in _READY and not (status == "UNSTABLE" and how.any_check):
            raise NotNowError(
                f"{'/'.join(repo)}#{number} is not merged",
                why=f"GitHub says that its state is {status}",
            )
        change = {"merge_method": how.method, "sha": sha}
        self._api.send("PUT", self._at(repo, "pulls", number, "merge"), change)

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether it is merged or in the merge queue."""
        state = self._merging(repo, number)
        return state.merged or state.merge_queue_entry is not None

    def publish(self, repo: Repo, number: int) -> None:
        """Mark a draft as ready for review."""
        state = self._merging(repo, number)
        if state.is_draft:
            self._graphql.mutate(graphql.PUBLISH, id=state.id)

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Resolve the open conversations that GitHub says are about an earlier commit."""
        after = None
        while True:
            pull = self._graphql.one(repo, number, graphql.THREADS, graphql.Threads, after=after)
            for thread in pull.review_threads.each:
                if thread.is_outdated and not thread.is_resolved:
                    self._graphql.mutate(graphql.RESOLVE, id=thread.id)
            page = pull.review_threads.page_info
            if not page.has_next_page:
                return
            after = page.end_cursor

    def rights(self, repo: Repo) -> Rights:
        """What the token may do, and what the default branch requires; changes nothing."""
        found = self._api.get(rest_answers.REPOSITORY, self._at(repo))
        names: tuple[str, ...] = ()
        with contextlib.suppress(ForgeNotFoundError, ForgeRefusedError):  # not protected, or hidden
            path = self._at(repo, "branches", found.default_branch)
            names = self._api.get(rest.BRANCH, path).names
        # An App's rights are not shown there.
        may_write = not found.archived and (found.permissions is None or found.permissions.push)
        return Rights(may_write, found.methods, found.default_branch, names)

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        twin = type(self).__new__(type(self))
        api = self._api.rehearsing(steps)
        twin.__dict__ = {**self.__dict__, "_api": api, "_graphql": GraphQLClient(api)}
        return twin

    def _at(self, repo: Repo, *parts: object) -> str:
        return self._rest + api_path("repos", *repo, *parts)

    def _epic(self, repo: Repo, one: rest.Issue) -> Epic:
        below: tuple[SubIssue, ...] = ()
        if one.sub_issues_summary and one.sub_issues_summary.total:
            path = self._at(repo, "issues", one.number, "sub_issues")
            below = tuple(
                SubIssue(
                    sub.number,
                    Repo(*sub.repository_url.split("/")[-2:]) if sub.repository_url else repo,
                    sub.state == "open",
                )
                for sub in self._api.pages(rest.ISSUES, path, per_page=100)
            )
        return Epic(one.number, one.body or "", below)

    def _closing(self, repo: Repo, issue: graphql.Issue) -> list[Pull] | None:
        """The pull requests of its repository that close an issue; None if they may not be seen."""
        found: list[graphql.Head] = []
        page = issue.closed_by_pull_requests_references
        while page is not None:
            found += page.each
            if not found and page.nodes:
                _LOG.warning("%s#%d is closed by something hidden", "/".join(repo), issue.number)
                return None
            if not page.page_info.has_next_page:
                break
            after = page.page_info.end_cursor
            more = self._graphql.one(
                repo, issue.number, graphql.CLOSING, graphql.Closing, after=after
            )
            page = more.closed_by_pull_requests_references
        # By the present name: an old one of a repository is good for questions, too.
        here = issue.repository.name_with_owner
        return [details_of.pull(one) for one in found if one.repository.name_with_owner == here]

    def _overwritten(self, repo: Repo, number: int, known: str, written: str) -> str | None:
        """What was the text just before ours was written, if it was not the known one."""
        try:
            found = self._graphql.one(repo, number, graphql.EDITS, graphql.Edits)
        except CoreInfraError as error:  # what was to be written is written
            _LOG.warning("%s#%d: no history: %s", "/".join(repo), number, describe_error(error))
            return None
        edits = found.user_content_edits.each if found.user_content_edits else []
        texts = [edit.diff or "" for edit in sorted(edits, key=lambda one: one.edited_at)]
        while texts and not _same(texts[-1], written):  # what was edited after it has seen it
            texts.pop()
        is_known = len(texts) < 2 or _same(texts[-2], known)  # noqa: PLR2004 - the one before
        return None if is_known else texts[-2]

    def _details(self, repo: Repo, one: graphql.Pull) -> Details:
        """The details of a pull request, with all pages of its lists."""
        threads = one.review_threads.each
        page = one.review_threads.page_info
        while page.has_next_page:
            more = self._graphql.one(
                repo, one.number, graphql.THREADS, graphql.Threads, after=page.end_cursor
            )
            threads += more.review_threads.each
            page = more.review_threads.page_info
        reviews = one.reviews.each
        page = one.reviews.page_info
        while page.has_previous_page:
            earlier = self._graphql.one(
                repo, one.number, graphql.REVIEWS, graphql.Reviews, before=page.start_cursor
            )
            reviews = [*earlier.reviews.each, *reviews]
            page = earlier.reviews.page_info
        commit = next((node.commit for node in one.commits.each), None)
        contexts = []
        rollup = commit.status_check_rollup if commit else None
        while rollup is not None:
            contexts += rollup.contexts.each
            page = rollup.contexts.page_info
            if not page.has_next_page:
                break
            further = self._graphql.one(
                repo, one.number, graphql.CONTEXTS, graphql.Commits, after=page.end_cursor
            )
            rollup = next((node.commit.status_check_rollup for node in further.commits.each), None)
        return details_of.details(one, commit, contexts, threads, reviews)

    def _merging(self, repo: Repo, number: int) -> graphql.Merging:
        return self._graphql.one(repo, number, graphql.MERGING, graphql.Merging)


def _same(one: str, other: str) -> bool:
    """Whether two texts differ by their line ends only."""
    return one.splitlines() == other.splitlines()
