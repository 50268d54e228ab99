"""GitHub on this host: as much of it as our client uses."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import graphql

from jobs.api_server import API, NOW, Description, Reply, Request, moment
from jobs.forge_server import ForgeServer
from jobs.github_graphql import Root, last_runs, rollup

if TYPE_CHECKING:
    from datetime import datetime

NOT_MERGEABLE = {"BEHIND", "BLOCKED", "DIRTY", "DRAFT", "UNKNOWN"}


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
        self.texts: dict[int, list[str]] = {}
        """The texts that issues have had, the latest one last."""
        self.name = "acme/widgets"
        """Its present name; it is still found by the old one."""
        self.points = {"core": 5000, "graphql": 5000}

    def reply(self, request: Request) -> Reply:
        """An answer, with what is left of the limit; one without news does not count."""
        reply = super().reply(request)
        resource = "graphql" if request.path == "/graphql" else "core"
        with self.lock:
            self.points[resource] -= reply.status != 304
            left = self.points[resource]
        if any(name.lower().startswith("x-ratelimit") for name in reply.headers):
            return reply
        found = {"limit": 5000, "remaining": left, "resource": resource, "reset": 1772629200}
        headers = {f"X-RateLimit-{name}": str(value) for name, value in found.items()}
        return reply._replace(headers={**headers, **reply.headers})

    def edit(self, number: int, change: dict[str, Any]) -> None:
        """Edits are kept; what somebody has changed meanwhile is an edit, too."""
        texts = self.texts.setdefault(number, [])
        if not texts or texts[-1] != self.issues[number]["body"]:
            texts.append(self.issues[number]["body"])
        super().edit(number, change)
        if texts[-1] != self.issues[number]["body"]:
            texts.append(self.issues[number]["body"])

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
            case "POST", ["issues", number, "labels"]:
                labels = self.issues[int(number)]["labels"]
                labels += [name for name in request.content["labels"] if name not in labels]
                return Reply(200, self.issue(int(number))["labels"])
            case "DELETE", ["issues", number, "labels", name]:
                self.issues[int(number)]["labels"].remove(name)
                return Reply(200, self.issue(int(number))["labels"])
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
        counted = last_runs(self.contexts(pull))
        return "CLEAN" if rollup(counted) in {None, "SUCCESS"} else "UNSTABLE"

    def undescribed(self, request: Request, path: str) -> Reply | None:
        return self.graphql(request.content) if path == "/graphql" else None

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
