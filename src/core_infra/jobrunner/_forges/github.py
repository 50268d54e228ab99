"""GitHub: REST where there are ETags, GraphQL for what REST does not have."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from core_infra.jobrunner._forges import github_graphql as graphql
from core_infra.jobrunner._forges import github_rest as rest
from core_infra.jobrunner._forges.api_client import ApiClient, api_path
from core_infra.jobrunner._forges.errors import ForgeRefusedError
from core_infra.jobrunner._forges.forge import Child, Details, Epic, Pull, Repo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._clock import Clock
    from core_infra.jobrunner._forges.endpoint import Token
    from core_infra.jobrunner._signal import CheckStatus, PrState

URL = "https://api.github.com"
_VERSION = "2022-11-28"
_AT_ONCE = 25
"""How many issues or pull requests are in one query."""
_CHECKS: dict[str, CheckStatus] = {
    "SUCCESS": "SUCCESS",
    "FAILURE": "FAILURE",
    "ERROR": "FAILURE",
}
"""Everything else is PENDING, and so is a head without checks."""
_READY = frozenset({"CLEAN", "HAS_HOOKS", "UNSTABLE"})


class GitHub:
    """github.com, or a GitHub Enterprise server.

    Args:
        token: a token that may read and write issues, pull requests and contents.
        url: the address of the REST API; a server's ends in ``/api/v3``.
        timeout: seconds that an answer may take.
        pause: seconds between two requests that change something; GitHub asks for one.
        retry_pause: seconds before a GET without an answer is repeated.
        clock: the source of time.
    """

    def __init__(
        self,
        token: Token | None,
        url: str = URL,
        *,
        timeout: float = 30.0,
        pause: float = 1.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
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
            clock=clock,
        )

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        host = self._api.url.host
        return "github.com" if host == "api.github.com" else host

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues with a label."""
        path = self._at(repo, "issues")
        found = self._api.pages(rest.ISSUES, path, labels=label, state="open", per_page=100)
        return [Epic(one.number, one.body or "") for one in found if one.pull_request is None]

    def pulls(self, repo: Repo) -> Sequence[Pull]:
        """The open pull requests."""
        found = self._api.pages(rest.PULLS, self._at(repo, "pulls"), state="open", per_page=100)
        return [_pull(one) for one in found]

    def closed_pulls(self, repo: Repo) -> Sequence[Pull]:
        """The hundred pull requests that were closed or merged last."""
        path = self._at(repo, "pulls")
        found = self._api.get(
            rest.PULLS, path, state="closed", sort="updated", direction="desc", per_page=100
        )
        return [_pull(one) for one in found]

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers."""
        found = {}
        for issue in self._each(repo, numbers, "issue", graphql.ISSUE, graphql.Issue):
            assignee = next((user.login for user in issue.assignees.nodes), "")
            found[issue.number] = Child(
                issue.number, issue.title, issue.body, issue.state == "OPEN", assignee
            )
        return found

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """Conflicts, checks and conversations of pull requests."""
        numbers = [pull.number for pull in pulls]
        return {
            one.number: _details(one)
            for one in self._each(repo, numbers, "pullRequest", graphql.PULL, graphql.Pull)
        }

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now."""
        found = self._api.get(rest.ISSUE, self._at(repo, "issues", number))
        return Epic(number, found.body or ""), found.state == "open"

    def comments(self, repo: Repo, number: int, since: datetime) -> Iterator[str]:
        """The comments since a time."""
        path = self._at(repo, "issues", number, "comments")
        moment = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        for one in self._api.pages(rest.COMMENTS, path, since=moment, per_page=100):
            yield one.body

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        self._api.send("POST", self._at(repo, "issues", number, "comments"), {"body": text})

    def edit_body(self, repo: Repo, number: int, body: str) -> None:
        """Replace an issue's text."""
        self._api.send("PATCH", self._at(repo, "issues", number), {"body": body})

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue as completed."""
        change = {"state": "closed", "state_reason": "completed"}
        self._api.send("PATCH", self._at(repo, "issues", number), change)

    def merge_when_ready(self, repo: Repo, number: int, sha: str) -> None:
        """Enable auto-merge; merge at once if there is nothing to wait for, as GitHub demands."""
        state = self._merging(repo, number)
        if state.merge_state_status in _READY:
            change = {"merge_method": "squash", "sha": sha}
            self._api.send("PUT", self._at(repo, "pulls", number, "merge"), change)
        else:
            self._mutate(graphql.ENABLE_AUTO_MERGE, id=state.id, sha=sha)

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether it is merged or has auto-merge enabled."""
        state = self._merging(repo, number)
        return state.merged or state.auto_merge_request is not None

    def publish(self, repo: Repo, number: int) -> None:
        """Mark a draft as ready for review."""
        state = self._merging(repo, number)
        if state.is_draft:
            self._mutate(graphql.PUBLISH, id=state.id)

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Resolve the conversations that are open."""
        after = None
        while True:
            pull = self._one(repo, number, graphql.THREADS, graphql.Threads, after=after)
            for thread in pull.review_threads.nodes:
                if not thread.is_resolved:
                    self._mutate(graphql.RESOLVE, id=thread.id)
            page = pull.review_threads.page_info
            if not page.has_next_page:
                return
            after = page.end_cursor

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        twin = type(self).__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_api": self._api.rehearsing(steps)}
        return twin

    def _at(self, repo: Repo, *parts: object) -> str:
        return self._rest + api_path("repos", *repo, *parts)

    def _merging(self, repo: Repo, number: int) -> graphql.Merging:
        return self._one(repo, number, graphql.MERGING, graphql.Merging)

    def _one(
        self, repo: Repo, number: int, query: str, kind: type[graphql.T], **variables: object
    ) -> graphql.T:
        variables |= {"owner": repo.owner, "name": repo.name, "number": number}
        data = self._query(query, variables)
        return graphql.parsed(kind, (data.get("repository") or {}).get("pullRequest"))

    def _each(
        self, repo: Repo, numbers: Iterable[int], field: str, fields: str, kind: type[graphql.T]
    ) -> Iterator[graphql.T]:
        left = iter(dict.fromkeys(numbers))
        while some := list(islice(left, _AT_ONCE)):
            data = self._query(graphql.several(field, fields, some), {**repo._asdict()})
            for found in (data.get("repository") or {}).values():
                if found is not None:  # the number is something else's, or not used
                    yield graphql.parsed(kind, found)

    def _query(self, query: str, variables: dict[str, object]) -> dict[str, Any]:
        content = {"query": query, "variables": variables}
        return self._data(self._api.ask(rest.ANSWER, "/graphql", content))

    def _mutate(self, mutation: str, **variables: object) -> None:
        name = mutation.removeprefix("mutation ").partition("(")[0]
        if not self._api.rehearses(f"GraphQL {name} {json.dumps(variables)}"):
            content = {"query": mutation, "variables": variables}
            self._data(self._api.order(rest.ANSWER, "/graphql", content))

    def _data(self, answer: rest.Answer) -> dict[str, Any]:
        problems = [problem for problem in answer.errors if problem.type != "NOT_FOUND"]
        if any(problem.type == "RATE_LIMITED" for problem in problems):
            raise self._api.limited("the limit of its GraphQL API is used up")
        if problems or answer.data is None:
            text = "; ".join(problem.message for problem in answer.errors)
            raise ForgeRefusedError(f"{self._api.url} refuses a query", why=text[:500], status=200)
        return answer.data


def _pull(one: rest.Pull) -> Pull:
    if one.state == "open":
        state: PrState = "OPEN"
    else:
        state = "MERGED" if one.merged_at else "CLOSED"
    return Pull(one.number, one.title, one.body or "", state, one.draft, one.head.sha, "UNKNOWN")


def _details(one: graphql.Pull) -> Details:
    commits = [node.commit for node in one.commits.nodes]
    rollup = commits[-1].status_check_rollup if commits else None
    threads = one.review_threads
    return Details(
        mergeable=one.mergeable,
        check_status=_CHECKS.get(rollup.state if rollup else "", "PENDING"),
        threads_total=threads.total_count,
        # Those after the first hundred count as open: to merge too early would be worse.
        threads_resolved=sum(thread.is_resolved for thread in threads.nodes),
        last_commit_at=commits[-1].committed_date if commits else None,
        last_review_at=max(
            filter(None, (node.submitted_at for node in one.reviews.nodes)), default=None
        ),
    )
