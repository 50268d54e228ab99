"""Forgejo on this host: as much of it as our client uses."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobs.api_server import NOW, Description, Reply, Request, moment
from jobs.forge_server import ForgeServer

if TYPE_CHECKING:
    from datetime import datetime


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
        self.labels: list[str] = []
        self.base, self.based = "0" * 40, NOW - timedelta(hours=2)
        """The commit that all bases are at, and its time."""

    def label(self, name: str) -> dict[str, Any]:
        """A label of the repository; those that an issue was given at first are made here."""
        if name not in self.labels:
            self.labels.append(name)
        return {"id": self.labels.index(name) + 1, "name": name}

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
            "labels": [self.label(name) for name in mine["labels"]],
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
            "labels": [self.label(name) for name in mine["labels"]],
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
                "sha": self.base,
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
            official = who not in pull["strangers"]
            given = {"state": state, "submitted_at": moment(when), "dismissed": False}
            given["official"] = official
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
                when = self.based if sha == self.base else self.head(sha)["committed"]
                who = {"name": "x", "email": "x@x", "date": moment(when)}
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
                return self.of_labels(request, parts)

    def of_labels(self, request: Request, parts: list[str]) -> Reply:
        match request.method, parts:
            case "GET", ["labels"]:
                return Reply(200, [self.label(name) for name in list(self.labels)])
            case "POST", ["labels"]:
                return Reply(201, self.label(request.content["name"]))
            case "POST", ["issues", number, "labels"]:
                given = self.issues[int(number)]["labels"]
                # Names that the repository does not have are ignored.
                given += [one for one in request.content["labels"] if one in self.labels]
                return Reply(200, [self.label(name) for name in given])
            case "DELETE", ["issues", number, "labels", place]:
                self.issues[int(number)]["labels"].remove(self.labels[int(place) - 1])
                return Reply(204)
            case _:
                return super().special(request, parts)
