"""A forge on this host, with one repository: what GitHub and Forgejo have in common."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from jobs.api_server import NOW, ApiServer, Reply, Request, moment

NO_NEWS = ("checks", "contexts", "mergeable", "state", "checking")


class ForgeServer(ApiServer):
    """A forge with one repository, acme/widgets.

    Attributes:
        issues: by number; pull requests are among them, as they are on the real ones.
        comments: by number; when, and what.
        merged: what was merged or is to be, as number and commit.
    """

    default_branch = "main"
    edited = 200

    def __init__(self) -> None:
        super().__init__()
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, list[tuple[datetime, str]]] = {}
        self.merged: list[tuple[int, str]] = []
        self.changes = 0
        self.seen: dict[int, tuple[int, str]] = {}
        self.sub_issues: dict[int, list[int]] = {}

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
            "strangers": [],  # reviewers who may not push
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

    def answer(self, request: Request, path: str) -> Reply:
        return self.in_repository(request, path.split("/")[4:])

    def in_repository(self, request: Request, parts: list[str]) -> Reply:  # noqa: PLR0911
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

    def special(self, request: Request, parts: list[str]) -> Reply:
        del request, parts
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
