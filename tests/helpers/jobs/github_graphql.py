"""GitHub's GraphQL on this host: the values of the fields that our queries have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobs.api_server import NOW, moment

if TYPE_CHECKING:
    from jobs.github_server import GitHubServer

FAILED = {"FAILURE", "ERROR", "CANCELLED", "TIMED_OUT", "ACTION_REQUIRED", "STARTUP_FAILURE"}
GREEN = {"SUCCESS", "NEUTRAL", "SKIPPED"}


def user(name: str | None) -> dict[str, str] | None:
    """A person, or an app, whose name ends in [bot]; None for a deleted account."""
    if not name:
        return None
    kind = "Bot" if name.endswith("[bot]") else "User"
    return {"__typename": kind, "login": name.removesuffix("[bot]")}


def check_run(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """A check run of GitHub Actions; ``"again": 1`` is of the same job, later."""
    suite = {
        "createdAt": moment(NOW + timedelta(minutes=state.get("again", 0))),
        "app": {"slug": "github-actions"},
        "workflowRun": {"event": state.get("event", "push"), "workflow": {"name": "CI"}},
    }
    return {"__typename": "CheckRun", "name": name, "checkSuite": suite, **state}


def named(names: list[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


def before(nodes: list[Any], last: int, before: str | None = None) -> Any:
    end = len(nodes) if before is None else int(before)
    start = max(end - last, 0)
    page = {"hasPreviousPage": start > 0, "startCursor": str(start)}
    return {"nodes": nodes[start:end], "pageInfo": page}


def last_runs(contexts: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The checks without runs of a job that ran again."""
    again = {name for name, state in contexts if isinstance(state, dict) and state.get("again")}
    return [
        (name, state)
        for name, state in contexts
        if name not in again or isinstance(state, str) or state.get("again")
    ]


def rollup(contexts: list[tuple[str, Any]]) -> str | None:
    """The state of all checks together."""
    words = [
        state
        if isinstance(state, str)
        else (state["conclusion"] if state["status"] == "COMPLETED" else "PENDING")
        for _, state in contexts
    ]
    if not words:
        return None
    if any(word in FAILED for word in words):
        return "FAILURE"
    return "SUCCESS" if all(word in GREEN for word in words) else "PENDING"


class Root:
    """What GraphQL asks."""

    def __init__(self, server: GitHubServer) -> None:
        self.server = server

    def repository(self, _: Any, owner: str, name: str) -> Any:
        if (owner, name) != ("acme", "widgets"):
            raise LookupError(f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return self

    def issues(self, _: Any, first: int, orderBy: dict[str, str]) -> Any:  # noqa: N803 - GitHub's
        assert orderBy == {"field": "UPDATED_AT", "direction": "DESC"}
        return {"nodes": self.changed(pulls=False)[:first]}

    def pullRequests(self, _: Any, first: int, orderBy: dict[str, str]) -> Any:  # noqa: N802, N803
        assert orderBy == {"field": "UPDATED_AT", "direction": "DESC"}
        return {"nodes": self.changed(pulls=True)[:first]}

    def changed(self, *, pulls: bool) -> list[dict[str, str]]:
        server = self.server
        some = [one for one, issue in server.issues.items() if (issue["pull"] is not None) is pulls]
        times = sorted(map(server.news, some), reverse=True)
        return [{"updatedAt": moment(NOW + timedelta(seconds=time))} for time in times]

    def issue(self, _: Any, number: int) -> Any:
        mine = self.server.issues.get(number)
        if mine is None or mine["pull"] is not None:
            raise LookupError(f"Could not resolve to an Issue with the number of {number}.")
        users = [{"login": name} for name in mine["assignees"]]
        state = "OPEN" if mine["open"] else "CLOSED"
        return {
            **mine,
            "number": number,
            "state": state,
            "assignees": lambda *_, first: {"nodes": users[:first]},
            "labels": lambda *_, first: {"nodes": named(mine["labels"])[:first]},
            "repository": {"nameWithOwner": self.server.name},
            "userContentEdits": lambda *_, first: self.edits(number, first),
            "closedByPullRequestsReferences": lambda *_, **given: self.closing(number, **given),
        }

    def edits(self, number: int, first: int) -> Any:
        texts = self.server.texts.get(number, [])
        nodes = [
            {"editedAt": moment(NOW + timedelta(seconds=place)), "diff": text}
            for place, text in enumerate(texts)
        ]
        return {"nodes": nodes[::-1][:first]}

    def closing(
        self,
        number: int,
        first: int,
        after: str | None = None,
        *,
        includeClosedPrs: bool,  # noqa: N803
    ) -> Any:
        found = [
            self.pullRequest(None, other)
            for other, issue in self.server.issues.items()
            if issue["pull"] is not None
            and (includeClosedPrs or issue["open"])
            and number in self.server.closed_by(other)
        ]
        start = int(after or 0)
        info = {"hasNextPage": start + first < len(found), "endCursor": str(start + first)}
        return {"nodes": found[start : start + first], "pageInfo": info}

    def pullRequest(self, _: Any, number: int) -> Any:  # noqa: N802 - GitHub's
        mine = self.server.issues.get(number)
        if mine is None or mine["pull"] is None:
            raise LookupError(f"Could not resolve to a PullRequest with the number of {number}.")
        pull = mine["pull"]
        commit = {
            "oid": pull["sha"],
            "committedDate": moment(pull["committed"]),
            "statusCheckRollup": self.rollup(pull),
        }
        reviewed = [("bob", "CHANGES_REQUESTED", pull["reviewed"])] if pull["reviewed"] else []
        reviews = [
            {
                "author": user(who),
                "authorCanPushToRepository": who not in pull["strangers"],
                "state": state,
                "submittedAt": moment(when),
            }
            for who, state, when in [*reviewed, *pull["reviews"]]
        ]
        return {
            "id": f"PR_{number}",
            "number": number,
            "title": mine["title"],
            "body": mine["body"] or "",
            "state": "MERGED" if pull["merged"] else "OPEN" if mine["open"] else "CLOSED",
            "headRefOid": pull["sha"],
            "author": user(pull["author"]),
            "baseRefName": pull["base"],
            "isCrossRepository": pull["fork"],
            "repository": {
                "nameWithOwner": self.server.name,
                "defaultBranchRef": {"name": self.server.default_branch},
            },
            "labels": lambda *_, first: {"nodes": named(mine["labels"])[:first]},
            "mergeable": "MERGEABLE" if pull["mergeable"] else "CONFLICTING",
            "commits": lambda *_, **__: {"nodes": [{"commit": commit}]},
            "reviews": lambda *_, **given: before(reviews, **given),
            "reviewThreads": lambda *_, **given: self.threads(number, **given),
            "isDraft": pull["draft"],
            "merged": pull["merged"],
            "mergeStateStatus": self.server.merge_state(number),
            "mergeQueueEntry": {"id": "Q"} if pull["queued"] else None,
        }

    def rollup(self, pull: dict[str, Any]) -> Any:
        contexts = self.server.contexts(pull)
        if not contexts:
            return None
        nodes = [
            {"__typename": "StatusContext", "context": name, "state": state}
            if isinstance(state, str)
            else check_run(name, state)
            for name, state in contexts
        ]

        def page(*_: Any, first: int, after: str | None = None) -> Any:
            start = int(after or 0)
            info = {"hasNextPage": start + first < len(nodes), "endCursor": str(start + first)}
            return {"nodes": nodes[start : start + first], "pageInfo": info}

        return {"state": rollup(contexts), "contexts": page}

    def threads(self, number: int, first: int, after: str | None = None) -> Any:
        pull = self.server.issues[number]["pull"]
        every = pull["threads"]
        start = int(after or 0)
        nodes = [
            {
                "id": f"T_{number}_{place}",
                "isResolved": done,
                "isOutdated": place < pull["outdated"],
            }
            for place, done in enumerate(every[start : start + first], start)
        ]
        more = start + first < len(every)
        page = {"hasNextPage": more, "endCursor": str(start + first)}
        return {"totalCount": len(every), "nodes": nodes, "pageInfo": page}

    def enqueuePullRequest(self, _: Any, input: dict[str, Any]) -> Any:  # noqa: A002, N802
        number = int(input["pullRequestId"].removeprefix("PR_"))
        pull = self.server.issues[number]["pull"]
        if input["expectedHeadOid"] != pull["sha"]:
            raise ValueError("head branch was modified")
        pull["queued"] = pull["sha"]
        return {"clientMutationId": None}

    def markPullRequestReadyForReview(self, _: Any, input: dict[str, Any]) -> Any:  # noqa: A002, N802
        self.server.issues[int(input["pullRequestId"].removeprefix("PR_"))]["pull"]["draft"] = False
        return {"clientMutationId": None}

    def resolveReviewThread(self, _: Any, input: dict[str, Any]) -> Any:  # noqa: A002, N802
        number, place = map(int, input["threadId"].removeprefix("T_").split("_"))
        self.server.issues[number]["pull"]["threads"][place] = True
        return {"clientMutationId": None}
