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
        }
        mine = {key: fields.pop(key) for key in list(fields) if key in given}
        self.add_issue(number, **fields, pull=given | mine)

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
                return Reply(
                    200, [self.pull(one) for one in self.wanted(request.query, pulls=True)]
                )
            case "GET", ["issues", number] if int(number) in self.issues:
                return Reply(200, self.issue(int(number)))
            case "PATCH", ["issues", number]:
                self.edit(int(number), request.content)
                return Reply(self.edited, self.issue(int(number)))
            case "GET", ["issues", number, "comments"]:
                since = request.query.get("since", "")
                said = self.comments.get(int(number), [])
                return Reply(200, [self.comment(*one) for one in said if moment(one[0]) >= since])
            case "POST", ["issues", number, "comments"]:
                one = (datetime.now(UTC), request.content["body"])
                self.comments.setdefault(int(number), []).append(one)
                return Reply(201, self.comment(*one))
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

    def comment(self, when: datetime, text: str) -> dict[str, Any]:
        raise NotImplementedError


class GitHubServer(ForgeServer):
    """It answers with a real issue and a real pull request, changed where the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.description = Description("github.json")
        self.payloads = json.loads((API / "github-payloads.json").read_text())
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
        }
        if mine["pull"] is not None:
            found["pull_request"] = dict.fromkeys(("url", "html_url", "diff_url", "patch_url"), "")
        return found

    def pull(self, number: int) -> dict[str, Any]:
        mine = self.issues[number]
        found = copy.deepcopy(self.payloads["pull"])
        found |= {
            "number": number,
            "title": mine["title"],
            "body": mine["body"],
            "state": "open" if mine["open"] else "closed",
            "draft": mine["pull"]["draft"],
            "merged_at": moment(NOW) if mine["pull"]["merged"] else None,
        }
        found.setdefault("auto_merge", None)  # younger than the example
        found["head"]["sha"] = mine["pull"]["sha"]
        return dict(found)

    def comment(self, when: datetime, text: str) -> dict[str, Any]:
        user = self.payloads["issue"]["user"]
        return {
            "id": 1,
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

    def special(self, request: Request, parts: list[str]) -> Reply:
        match request.method, parts:
            case "PUT", ["pulls", number, "merge"]:
                pull = self.issues[int(number)]["pull"]
                if request.content["sha"] != pull["sha"]:
                    return Reply(409, {"message": "Head branch was modified."})
                pull["merged"] = True
                self.merged.append((int(number), request.content["sha"]))
                return Reply(200, {"sha": pull["sha"], "merged": True, "message": "merged"})
            case _:
                return super().special(request, parts)

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
            if kind == "INTERNAL" and "clean status" not in error["message"]:
                self.violations.append(error["message"])
        return Reply(200, formatted)


class Root:
    """What GraphQL asks."""

    def __init__(self, server: GitHubServer) -> None:
        self.server = server

    def repository(self, _: Any, owner: str, name: str) -> Any:
        assert (owner, name) == ("acme", "widgets")
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
        }

    def pullRequest(self, _: Any, number: int) -> Any:  # noqa: N802 - GitHub's
        pull = self.server.issues[number]["pull"]
        rollup = {"state": pull["checks"]} if pull["checks"] else None
        commit = {"committedDate": moment(pull["committed"]), "statusCheckRollup": rollup}
        reviewed = pull["reviewed"] and moment(pull["reviewed"])
        waits = pull["checks"] != "SUCCESS" or not pull["mergeable"] or pull["draft"]
        return {
            "id": f"PR_{number}",
            "number": number,
            "mergeable": "MERGEABLE" if pull["mergeable"] else "CONFLICTING",
            "commits": lambda *_, **__: {"nodes": [{"commit": commit}]},
            "reviews": lambda *_, **__: {"nodes": [{"submittedAt": reviewed}]},
            "reviewThreads": lambda *_, **given: self.threads(number, **given),
            "isDraft": pull["draft"],
            "merged": pull["merged"],
            "mergeStateStatus": "BLOCKED" if waits else "CLEAN",
            "autoMergeRequest": {"enabledAt": moment(NOW)} if pull["auto"] else None,
        }

    def threads(self, number: int, first: int, after: str | None = None) -> Any:
        every = self.server.issues[number]["pull"]["threads"]
        start = int(after or 0)
        nodes = [
            {"id": f"T_{number}_{place}", "isResolved": done}
            for place, done in enumerate(every[start : start + first], start)
        ]
        more = start + first < len(every)
        page = {"hasNextPage": more, "endCursor": str(start + first)}
        return {"totalCount": len(every), "nodes": nodes, "pageInfo": page}

    def enablePullRequestAutoMerge(self, _: Any, input: dict[str, Any]) -> Any:  # noqa: A002, N802
        number = int(input["pullRequestId"].removeprefix("PR_"))
        pull = self.server.issues[number]["pull"]
        if pull["checks"] == "SUCCESS" and pull["mergeable"]:
            raise ValueError("Pull request Pull request is in clean status")
        assert input["mergeMethod"] == "SQUASH"
        pull["auto"] = True
        self.server.merged.append((number, input["expectedHeadOid"]))
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
            "mergeable": pull["mergeable"],
            "head": {"label": "x", "ref": "x", "sha": pull["sha"]},
        }

    def comment(self, when: datetime, text: str) -> dict[str, Any]:
        return {"id": 1, "body": text, "created_at": moment(when), "updated_at": moment(when)}

    def review(self, place: int, pull: dict[str, Any]) -> dict[str, Any]:
        when = pull["reviewed"] or NOW - timedelta(hours=1)
        return {
            "id": place,
            "state": "REQUEST_CHANGES",
            "dismissed": pull["threads"][place],
            "submitted_at": moment(when),
        }

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
                pull = next(
                    one["pull"]
                    for one in self.issues.values()
                    if one["pull"] and one["pull"]["sha"] == sha
                )
                return Reply(200, {"sha": sha, "state": (pull["checks"] or "pending").lower()})
            case "GET", ["git", "commits", sha]:
                pull = next(
                    one["pull"]
                    for one in self.issues.values()
                    if one["pull"] and one["pull"]["sha"] == sha
                )
                who = {"name": "x", "email": "x@x", "date": moment(pull["committed"])}
                return Reply(200, {"sha": sha, "commit": {"message": "x", "committer": who}})
            case "GET", ["pulls", number, "reviews"]:
                pull = self.issues[int(number)]["pull"]
                found = [self.review(place, pull) for place in range(len(pull["threads"]))]
                return Reply(200, found)
            case "POST", ["pulls", number, "reviews", place, "dismissals"]:
                pull = self.issues[int(number)]["pull"]
                pull["threads"][int(place)] = True
                return Reply(200, self.review(int(place), pull))
            case "POST", ["pulls", number, "merge"]:
                pull = self.issues[int(number)]["pull"]
                if request.content["head_commit_id"] != pull["sha"]:
                    return Reply(409, {"message": "head out of date"})
                pull["merged"] = pull["checks"] == "SUCCESS"
                self.merged.append((int(number), request.content["head_commit_id"]))
                return Reply(200, raw=b"")
            case _:
                return super().special(request, parts)
