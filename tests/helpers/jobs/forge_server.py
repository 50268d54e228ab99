"""GitHub and Forgejo on this host: as much of them as our clients use, over real HTTP.

Every request is checked against the forge's published description, and so is every answer that is
given: a server that tells something else than the real one would prove nothing.
"""

from __future__ import annotations

import copy
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import graphql
import jsonschema

if TYPE_CHECKING:
    from collections.abc import Callable

API = Path(__file__).parents[3] / "fixtures" / "api"
NO_NEWS = ("checks", "contexts", "mergeable", "state", "checking")
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: Any

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class Reply(NamedTuple):
    status: int = 200
    content: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    raw: bytes | None = None


class Description:
    """A published description, as far as fixtures/api has it."""

    def __init__(self, name: str) -> None:
        found = json.loads((API / name).read_text())
        self.definitions = found["definitions"]
        self.operations = {
            (line.split()[0], re.compile(re.sub(r"\{\w+\}", "([^/]+)", line.split()[1]))): operation
            for line, operation in found["operations"].items()
        }

    def find(self, method: str, path: str) -> dict[str, Any] | None:
        for (verb, pattern), operation in self.operations.items():
            if verb == method and pattern.fullmatch(path):
                return dict(operation)
        return None

    def problems(self, content: Any, schema: Any) -> list[str]:
        whole = {**schema, "definitions": self.definitions}
        validator = jsonschema.Draft202012Validator(whole)
        return [
            f"{'.'.join(map(str, error.path))}: {error.message:.200}"
            for error in validator.iter_errors(content)
        ]


class ForgeServer:
    """A forge with one repository, acme/widgets.

    Attributes:
        issues: by number; pull requests are among them, as they are on the real ones.
        comments: by number; when, and what.
        requests: all that was asked, in order.
        violations: what was asked or answered against the description.
        override: answers before the forge does, if it returns something.
        merged: what was merged or is to be, as number and commit.
    """

    description: Description
    default_branch = "main"
    prefix = ""
    page = 100
    page_parameter = "per_page"

    def __init__(self) -> None:
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, list[tuple[datetime, str]]] = {}
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.override: Callable[[Request], Reply | None] = lambda _: None
        self.merged: list[tuple[int, str]] = []
        self.lock = threading.RLock()
        self.changes = 0
        self.seen: dict[int, tuple[int, str]] = {}
        self.sub_issues: dict[int, list[int]] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                url = urllib.parse.urlsplit(self.path)
                request = Request(
                    self.command,
                    url.path,
                    dict(urllib.parse.parse_qsl(url.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(body) if body else None,
                )
                reply = outer.reply(request)
                content = reply.raw
                if content is None:
                    content = (
                        b"" if reply.status in {204, 304} else json.dumps(reply.content).encode()
                    )
                self.send_response(reply.status)
                headers = {"Content-Length": str(len(content)), **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                if reply.raw is not None:
                    self.close_connection = True

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # the client went away: some tests want that

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add_issue(self, number: int, **fields: Any) -> None:
        given = {
            "title": f"Issue {number}",
            "body": "",
            "open": True,
            "labels": [],
            "assignees": [],
        }
        self.issues[number] = {"pull": None, **given, **fields}

    def add_pull(self, number: int, **fields: Any) -> None:
        given: dict[str, Any] = {
            "sha": f"{number:040x}",
            "draft": False,
            "merged": False,
            "mergeable": True,
            "checks": "SUCCESS",
            "threads": [],
            "committed": NOW,
            "reviewed": None,
            "auto": False,
            "author": "ann",
            "base": "main",
            "fork": False,
            "contexts": None,  # names and states of checks, instead of one for all
            "reviews": [],  # who, which state, when
            "outdated": 0,  # how many of the first threads are about an earlier commit
            "state": "",  # GitHub's mergeStateStatus, instead of what follows from the rest
            "queued": "",
            "checking": False,
            "closes": None,  # the issues that it closes, instead of those that its text says
        }
        mine = {key: fields.pop(key) for key in list(fields) if key in given}
        reviewed = mine.get("reviewed")
        if reviewed and reviewed < mine.get("committed", NOW) <= NOW and "outdated" not in mine:
            mine["outdated"] = len(mine.get("threads", ()))
        self.add_issue(number, **fields, pull=given | mine)

    def closed_by(self, number: int) -> set[int]:
        """The issues that it closes: by its text itself, and into the main branch."""
        mine = self.issues[number]
        if mine["pull"]["closes"] is not None:
            return set(mine["pull"]["closes"])
        if mine["pull"]["base"] != self.default_branch:
            return set()
        text = re.sub(
            r"<!--.*?-->|<details>.*?</details>|```.*?(```|$)",
            "",
            mine["body"] or "",
            flags=re.DOTALL,
        )
        text = re.sub(r"`[^`]*`|^>.*$|<a .*?</a>|\[[^]]*\]\([^)]*\)", "", text, flags=re.MULTILINE)
        site = re.escape(f"{self.url}/acme/widgets/")
        return {
            int(found[1])
            for found in re.finditer(
                r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+"
                rf"(?:#|GH-|acme/widgets#|{site}(?:issues|pulls?)/)(\d+)\b",
                text,
                re.IGNORECASE,
            )
        }

    def contexts(self, pull: dict[str, Any]) -> list[tuple[str, Any]]:
        if pull["contexts"] is not None:
            return list(pull["contexts"])
        return [("ci", pull["checks"])] if pull["checks"] else []

    def news(self, number: int) -> int:
        """When an issue has changed last; checks and conflicts are no change of it."""
        mine = self.issues[number]
        pull = {key: value for key, value in (mine["pull"] or {}).items() if key not in NO_NEWS}
        seen = repr((sorted((k, v) for k, v in mine.items() if k != "pull"), sorted(pull.items())))
        said = repr(self.comments.get(number))
        if self.seen.get(number, (0, ""))[1] != seen + said:
            self.changes += 1
            self.seen[number] = (self.changes, seen + said)
        return self.seen[number][0]

    def lines(self, *methods: str) -> list[str]:
        return [
            request.line for request in self.requests if request.method in (methods or ("GET",))
        ]

    def reply(self, request: Request) -> Reply:
        with self.lock:
            self.requests.append(request)
            if (found := self.override(request)) is not None:
                return found
            path = request.path.removeprefix(self.prefix)
            if path == "/graphql":
                return self.graphql(request.content)
            operation = self.description.find(request.method, path)
            if operation is None:
                self.violations.append(f"{request.line} is not described")
                return Reply(404, {"message": "Not Found"})
            self.check_request(request, operation)
            reply = self.answer(request, path.split("/")[4:])
            if reply.status < 300:
                self.check_reply(request, reply, operation)
            return self.conditional(request, self.paged(request, reply))

    def check_request(self, request: Request, operation: dict[str, Any]) -> None:
        for name, value in request.query.items():
            schema = operation["query"].get(name)
            if schema is None:
                self.violations.append(f"{request.line} has no parameter {name}")
            elif "enum" in schema and value not in schema["enum"]:
                self.violations.append(f"{request.line}: {name} cannot be {value}")
        if (request.content is None) != (operation["body"] is None):
            self.violations.append(f"{request.line} was sent {request.content}")
        elif operation["body"] is not None:
            problems = self.description.problems(request.content, operation["body"])
            self.violations += [f"{request.line}: {problem}" for problem in problems]

    def check_reply(self, request: Request, reply: Reply, operation: dict[str, Any]) -> None:
        if str(reply.status) not in operation["responses"]:
            self.violations.append(f"{request.line} never answers {reply.status}")
        elif (schema := operation["responses"][str(reply.status)]) is not None:
            problems = self.description.problems(reply.content, schema)
            self.violations += [f"answer to {request.line}: {problem}" for problem in problems]

    def paged(self, request: Request, reply: Reply) -> Reply:
        if not isinstance(reply.content, list):
            return reply
        size = min(int(request.query.get(self.page_parameter, 30)), self.page)
        page = int(request.query.get("page", 1))
        part = reply.content[(page - 1) * size : page * size]
        headers = {}
        if page * size < len(reply.content):
            query = urllib.parse.urlencode({**request.query, "page": page + 1})
            headers["Link"] = f'<{self.url}{request.path}?{query}>; rel="next"'
        return Reply(reply.status, part, headers)

    def conditional(self, request: Request, reply: Reply) -> Reply:
        if request.method != "GET" or reply.status != 200:
            return reply
        etag = f'"{hashlib.sha256(json.dumps(reply.content).encode()).hexdigest()}"'
        if request.headers.get("if-none-match") == etag:
            return Reply(304)
        return reply._replace(headers={**reply.headers, "ETag": etag})

    def answer(self, request: Request, parts: list[str]) -> Reply:  # noqa: PLR0911
        match request.method, parts:
            case "GET", ["issues"]:
                return Reply(200, [self.issue(one) for one in self.wanted(request.query)])
            case "GET", ["pulls"]:
                found = [self.pull(one) for one in self.wanted(request.query, pulls=True)]
                return Reply(200, found)
            case "GET", ["issues", number] if int(number) in self.issues:
                return Reply(200, self.issue(int(number)))
            case "PATCH", ["issues", number]:
                self.edit(int(number), request.content)
                return Reply(self.edited, self.issue(int(number)))
            case "GET", ["issues", number, "comments"]:
                since = request.query.get("since", "")
                said = self.comments.get(int(number), [])
                return Reply(
                    200,
                    [
                        self.comment(int(number) * 1000 + place, *one)
                        for place, one in enumerate(said)
                        if moment(one[0]) >= since
                    ],
                )
            case "POST", ["issues", number, "comments"]:
                one = (datetime.now(UTC), request.content["body"])
                said = self.comments.setdefault(int(number), [])
                said.append(one)
                return Reply(201, self.comment(int(number) * 1000 + len(said) - 1, *one))
            case "PATCH", ["issues", "comments", comment]:
                said, place = self.comments[int(comment) // 1000], int(comment) % 1000
                said[place] = (said[place][0], request.content["body"])
                return Reply(200, self.comment(int(comment), *said[place]))
            case "GET", ["issues", number, "sub_issues"]:
                return Reply(200, [self.issue(one) for one in self.sub_issues[int(number)]])
            case _:
                return self.special(request, parts)

    edited = 200

    def special(self, request: Request, parts: list[str]) -> Reply:
        del request, parts
        return Reply(404, {"message": "Not Found"})

    def graphql(self, content: Any) -> Reply:
        del content
        return Reply(404, {"message": "Not Found"})

    def wanted(self, query: dict[str, str], *, pulls: bool = False) -> list[int]:
        found = []
        for number, issue in sorted(self.issues.items()):
            if pulls and issue["pull"] is None:
                continue
            if query.get("type") == "issues" and issue["pull"] is not None:
                continue
            if query.get("labels", "") not in {"", *issue["labels"]}:
                continue
            if query.get("state", "open") in {"all", "open" if issue["open"] else "closed"}:
                found.append(number)
        if query.get("sort") in {"updated", "recentupdate"}:
            found.sort(key=self.news, reverse=True)
        return found

    def edit(self, number: int, change: dict[str, Any]) -> None:
        issue = self.issues[number]
        issue |= {key: change[key] for key in ("body", "title") if key in change}
        if "state" in change:
            issue["open"] = change["state"] == "open"

    def issue(self, number: int) -> dict[str, Any]:
        raise NotImplementedError

    def pull(self, number: int) -> dict[str, Any]:
        raise NotImplementedError

    def comment(self, number: int, when: datetime, text: str) -> dict[str, Any]:
        raise NotImplementedError


class GitHubServer(ForgeServer):
    """It answers with a real issue and a real pull request, changed where the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.description = Description("github.json")
        self.payloads = json.loads((API / "github-payloads.json").read_text())
        self.payloads["label"] = {
            "id": 1,
            "node_id": "x",
            "url": "http://x/1",
            "name": "x",
            "color": "ffffff",
            "default": False,
            "description": None,
        }
        self.schema = graphql.build_schema((API / "github.graphql").read_text())

    def issue(self, number: int) -> dict[str, Any]:
        mine = self.issues[number]
        user = self.payloads["issue"]["user"]
        found = {
            **copy.deepcopy(self.payloads["issue"]),
            "number": number,
            "title": mine["title"],
            "body": mine["body"],
            "state": "open" if mine["open"] else "closed",
            "assignees": [{**user, "login": name} for name in mine["assignees"]],
            "labels": [{**self.payloads["label"], "name": name} for name in mine["labels"]],
            "updated_at": moment(NOW + timedelta(seconds=self.news(number))),
            "repository_url": f"{self.url}/repos/acme/widgets",
        }
        if number in self.sub_issues:
            below = self.sub_issues[number]
            done = sum(not self.issues[one]["open"] for one in below)
            found["sub_issues_summary"] = {
                "total": len(below),
                "completed": done,
                "percent_completed": 100 * done // max(len(below), 1),
            }
        if mine["pull"] is not None:
            found["pull_request"] = dict.fromkeys(("url", "html_url", "diff_url", "patch_url"), "")
        return found

    def comment(self, number: int, when: datetime, text: str) -> dict[str, Any]:
        user = self.payloads["issue"]["user"]
        return {
            "id": number,
            "node_id": "x",
            "url": "http://x/1",
            "html_url": "http://x/1",
            "body": text,
            "user": user,
            "issue_url": "http://x/1",
            "created_at": moment(when),
            "updated_at": moment(when),
            "author_association": "NONE",
        }

    def special(self, request: Request, parts: list[str]) -> Reply:  # noqa: PLR0911 - as many as it has
        match request.method, parts:
            case "PUT", ["pulls", number, "merge"]:
                pull = self.issues[int(number)]["pull"]
                if request.content["sha"] != pull["sha"]:
                    return Reply(409, {"message": "Head branch was modified."})
                if pull["merged"] or self.merge_state(int(number)) in NOT_MERGEABLE:
                    return Reply(405, {"message": "Pull Request is not mergeable"})
                if request.content["merge_method"] not in self.methods:
                    how = request.content["merge_method"].title()
                    text = f"{how} merges are not allowed on this repository."
                    return Reply(405, {"message": text})
                pull["merged"], self.issues[int(number)]["open"] = True, False
                self.merged.append((int(number), request.content["sha"]))
                return Reply(200, {"sha": pull["sha"], "merged": True, "message": "merged"})
            case "PUT", ["pulls", number, "update-branch"]:
                pull = self.issues[int(number)]["pull"]
                if request.content["expected_head_sha"] != pull["sha"]:
                    return Reply(422, {"message": "expected head sha didn't match"})
                pull["sha"], pull["state"] = f"{int(number) + 7:040x}", ""
                return Reply(202, {"message": "Updating pull request branch.", "url": "x"})
            case _:
                return super().special(request, parts)

    methods = ("squash", "merge", "rebase")

    def merge_state(self, number: int) -> str:
        """What GitHub says of a repository without branch protection."""
        pull = self.issues[number]["pull"]
        if pull["state"] or not self.issues[number]["open"]:
            return str(pull["state"] or "UNKNOWN")
        if pull["draft"]:
            return "DRAFT"
        if not pull["mergeable"]:
            return "DIRTY"
        return "CLEAN" if rollup(self.contexts(pull)) in {None, "SUCCESS"} else "UNSTABLE"

    def graphql(self, content: Any) -> Reply:
        document = graphql.parse(content["query"])
        problems = graphql.validate(self.schema, document)
        self.violations += [str(problem) for problem in problems]
        result = graphql.execute_sync(
            self.schema, document, Root(self), variable_values=content["variables"]
        )
        formatted: dict[str, Any] = dict(result.formatted)
        for error in formatted.get("errors", []):
            kind = "NOT_FOUND" if "Could not resolve" in error["message"] else "INTERNAL"
            error["type"] = kind
            if kind == "INTERNAL" and "was modified" not in error["message"]:
                self.violations.append(error["message"])
        return Reply(200, formatted)


NOT_MERGEABLE = {"BEHIND", "BLOCKED", "DIRTY", "DRAFT", "UNKNOWN"}
FAILED = {"FAILURE", "ERROR", "CANCELLED", "TIMED_OUT", "ACTION_REQUIRED", "STARTUP_FAILURE"}
GREEN = {"SUCCESS", "NEUTRAL", "SKIPPED"}


def named(names: list[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


def before(nodes: list[Any], last: int, before: str | None = None) -> Any:
    end = len(nodes) if before is None else int(before)
    start = max(end - last, 0)
    page = {"hasPreviousPage": start > 0, "startCursor": str(start)}
    return {"nodes": nodes[start:end], "pageInfo": page}


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
            "closedByPullRequestsReferences": lambda *_, **given: self.closing(number, **given),
        }

    def closing(self, number: int, first: int, *, includeClosedPrs: bool) -> Any:  # noqa: N803
        found = [
            self.pullRequest(None, other)
            for other, issue in self.server.issues.items()
            if issue["pull"] is not None
            and (includeClosedPrs or issue["open"])
            and number in self.server.closed_by(other)
        ]
        return {"nodes": found[:first]}

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
            {"author": {"login": who} if who else None, "state": state, "submittedAt": moment(when)}
            for who, state, when in [*reviewed, *pull["reviews"]]
        ]
        return {
            "id": f"PR_{number}",
            "number": number,
            "title": mine["title"],
            "body": mine["body"] or "",
            "state": "MERGED" if pull["merged"] else "OPEN" if mine["open"] else "CLOSED",
            "headRefOid": pull["sha"],
            "author": {"login": pull["author"]} if pull["author"] else None,
            "baseRefName": pull["base"],
            "isCrossRepository": pull["fork"],
            "repository": {
                "nameWithOwner": "acme/widgets",
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
            else {"__typename": "CheckRun", "name": name, **state}
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


class ForgejoServer(ForgeServer):
    """It answers with what a Forgejo server answers to our questions."""

    prefix = "/api/v1"
    page = 50
    page_parameter = "limit"
    edited = 201

    def __init__(self) -> None:
        super().__init__()
        self.description = Description("forgejo.json")
        self.scheduled: dict[int, Any] = {}
        self.root_url = self.url

    def wanted(self, query: dict[str, str], *, pulls: bool = False) -> list[int]:
        """Names of labels that no issue has are ignored, as Forgejo ignores unknown ones."""
        known = {name for issue in self.issues.values() for name in issue["labels"]}
        if query.get("labels", "") not in {"", *known}:
            query = {key: value for key, value in query.items() if key != "labels"}
        return super().wanted(query, pulls=pulls)

    def paged(self, request: Request, reply: Reply) -> Reply:
        found = super().paged(request, reply)
        headers = {
            key: text.replace(self.url, self.root_url) for key, text in found.headers.items()
        }
        return found._replace(headers=headers)

    def issue(self, number: int) -> dict[str, Any]:
        mine = self.issues[number]
        found = {
            "id": number,
            "number": number,
            "title": mine["title"],
            "body": mine["body"],
            "state": "open" if mine["open"] else "closed",
            "labels": [{"id": 1, "name": name} for name in mine["labels"]],
        }
        if mine["assignees"]:
            found["assignees"] = [{"id": 1, "login": name} for name in mine["assignees"]]
        if mine["pull"] is not None:
            found["pull_request"] = {"merged": mine["pull"]["merged"]}
        return found

    def pull(self, number: int) -> dict[str, Any]:
        mine = self.issues[number]
        pull = mine["pull"]
        return {
            "id": number,
            "number": number,
            "title": mine["title"],
            "body": mine["body"],
            "state": "open" if mine["open"] else "closed",
            "draft": mine["title"].startswith("WIP:"),
            "merged": pull["merged"],
            "mergeable": self.is_mergeable(number),
            "user": {"id": 5, "login": pull["author"]},
            "updated_at": moment(NOW if pull["checking"] else NOW - timedelta(hours=1)),
            "labels": [{"id": 1, "name": name} for name in mine["labels"]],
            "head": {
                "label": "x",
                "ref": "x",
                "sha": pull["sha"],
                "repo_id": 8 if pull["fork"] else 7,
                "repo": {"full_name": "mallory/widgets" if pull["fork"] else "acme/widgets"},
            },
            "base": {
                "label": pull["base"],
                "ref": pull["base"],
                "sha": "0" * 40,
                "repo_id": 7,
                "repo": {"full_name": "acme/widgets", "default_branch": self.default_branch},
            },
        }

    def is_mergeable(self, number: int) -> bool:
        """False also for a draft, and while conflicts are looked for."""
        mine = self.issues[number]
        is_draft = mine["title"].startswith("WIP:")
        return mine["pull"]["mergeable"] and not is_draft and not mine["pull"]["checking"]

    def comment(self, number: int, when: datetime, text: str) -> dict[str, Any]:
        return {"id": number, "body": text, "created_at": moment(when), "updated_at": moment(when)}

    def review(self, place: int, pull: dict[str, Any]) -> dict[str, Any]:
        when = pull["reviewed"] or NOW - timedelta(hours=1)
        return {
            "id": place,
            "user": {"id": 100 + place, "login": f"reviewer{place}"},
            "state": "REQUEST_CHANGES",
            "dismissed": pull["threads"][place],
            "stale": place < pull["outdated"],
            "submitted_at": moment(when),
        }

    def reviews(self, pull: dict[str, Any]) -> list[dict[str, Any]]:
        found = [self.review(place, pull) for place in range(len(pull["threads"]))]
        ids = {"": 0}
        for place, one in enumerate(pull["reviews"], 1000):
            if isinstance(one, dict):
                found.append(one)
                continue
            who, state, when, *rest = one
            user = {"id": ids.setdefault(who, 50 + len(ids)), "login": who}
            given = {"state": state, "submitted_at": moment(when), "dismissed": False}
            found.append({"id": place, "user": user, "stale": False, **given, **dict(*rest)})
        return found

    def merge(self, number: int, content: dict[str, Any]) -> Reply:  # noqa: PLR0911 - reasons
        pull = self.issues[number]["pull"]
        if content.get("merge_when_checks_succeed"):
            # Only for the next event: nothing looks at what is green already.
            if number in self.scheduled:
                return Reply(409, {"message": "already scheduled"})
            self.scheduled[number] = content
            return Reply(201, raw=b"")
        if not self.issues[number]["open"]:
            return Reply(404, {"message": "The target couldn't be found."})
        if pull["checking"]:
            return Reply(405, {"message": "Please try again later"})
        if not self.is_mergeable(number):
            return Reply(405, {"message": "Work in progress PRs cannot be merged"})
        if content["head_commit_id"] != pull["sha"]:
            return Reply(409, {"message": "head out of date"})
        pull["merged"], self.issues[number]["open"] = True, False
        self.merged.append((number, content["head_commit_id"]))
        return Reply(200, raw=b"")

    def head(self, sha: str) -> dict[str, Any]:
        pulls = [one["pull"] for one in self.issues.values() if one["pull"]]
        return next(pull for pull in pulls if pull["sha"] == sha)

    def special(self, request: Request, parts: list[str]) -> Reply:  # noqa: PLR0911
        match request.method, parts:
            case "GET", ["pulls", number]:
                return Reply(200, self.pull(int(number)))
            case "PATCH", ["pulls", number]:
                self.edit(int(number), request.content)
                return Reply(201, self.pull(int(number)))
            case "GET", ["commits", sha, "status"]:
                # One page of the checks, and the state of that page.
                every = self.contexts(self.head(sha))
                size, page = int(request.query["limit"]), int(request.query["page"])
                some = every[(page - 1) * min(size, self.page) : page * min(size, self.page)]
                found = [
                    {"id": place, "context": name, "status": state.lower()}
                    for place, (name, state) in enumerate(some)
                ]
                state = next((one["status"] for one in found), "pending")
                total = {"total_count": len(every)}
                return Reply(200, {"sha": sha, "state": state, "statuses": found, **total})
            case "GET", ["git", "commits", sha]:
                pull = self.head(sha)
                who = {"name": "x", "email": "x@x", "date": moment(pull["committed"])}
                return Reply(200, {"sha": sha, "commit": {"message": "x", "committer": who}})
            case "GET", ["pulls", number, "reviews"]:
                return Reply(200, self.reviews(self.issues[int(number)]["pull"]))
            case "POST", ["pulls", number, "reviews", place, "dismissals"]:
                pull = self.issues[int(number)]["pull"]
                for one in pull["reviews"]:
                    if isinstance(one, dict) and one["id"] == int(place):
                        one["dismissed"] = True
                        return Reply(200, one)
                pull["threads"][int(place)] = True
                return Reply(200, self.review(int(place), pull))
            case "POST", ["pulls", number, "merge"]:
                return self.merge(int(number), request.content)
            case _:
                return super().special(request, parts)
