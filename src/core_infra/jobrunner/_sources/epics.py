"""Signals from the epics of a repository."""

from __future__ import annotations

import dataclasses
import logging
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner._clock import Clock, SystemClock
from core_infra.jobrunner._forges.errors import ForgeNotFoundError, ForgeRefusedError
from core_infra.jobrunner._forges.forge import Child, Details, Epic, Pull, Repo, signal_fields
from core_infra.jobrunner._forges.issue_texts import in_block, is_complete, tasks
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._signal import PipelineSignal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from core_infra.jobrunner._forges.forge import Forge, Rights
    from core_infra.jobrunner._forges.rate_limits import RateLimit
    from core_infra.jobrunner._signal import ActionResult

    Todo = list[tuple[Epic, Repo, int]]

_LOG = logging.getLogger(__name__)
_UNKNOWN = Details("UNKNOWN", "PENDING", 0, 0, None, None)
_REPORT = re.compile(r"`[^`\n]+` (?:was done for [^\n]+\.|failed for [^\n]+:\n\n```\n[^`]*\n```)")
"""A comment about a result."""
_READ_AGAIN = timedelta(minutes=10)
"""After this, everything is read again, even if the forge says that nothing has changed."""
_DETAILS_FRESH = timedelta(seconds=20)
_DETAILS_AGAIN = timedelta(seconds=90)
"""How old the checks of pull requests may be. While nothing else changes, they are read at every
second poll, so that thirty repositories need less than a quarter of GitHub's limit. The same answer
says whether there is news: each such poll is one request."""


@dataclasses.dataclass
class _Reading:
    """What was read of a repository.

    Attributes:
        at: when.
        epics: its epics.
        todo: the children that are not done, each with its epic.
        children: those that exist, by repository and number.
        pulls: the pull request of each child, by the child's repository and number.
    """

    at: datetime
    epics: list[Epic]
    todo: Todo
    children: dict[tuple[Repo, int], Child]
    pulls: dict[tuple[Repo, int], Pull | None]

    @property
    def repos(self) -> set[Repo]:
        """The repositories of its children."""
        return {repo for _, repo, _ in self.todo}

    @property
    def wanted(self) -> dict[Repo, dict[int, Pull]]:
        """The open pull requests of each repository."""
        found: dict[Repo, dict[int, Pull]] = {}
        for (repo, _), pull in self.pulls.items():
            if pull is not None and pull.state == "OPEN":
                found.setdefault(repo, {})[pull.number] = pull
        return found


class EpicSource:
    """The children of a repository's epics, and their pull requests.

    An epic is an open issue with a label. Its checklist (``- [ ] #42``) names its children; where
    the forge has sub-issues, they are its children, too. The pull request of a child is the open
    one that closes it, by the forge's own word; of several, the first one from the repository
    itself and to its default branch; without an open one, the merged one with the highest number.
    There is one signal for each child that is not ticked, and one without a child for each epic
    whose boxes are all ticked.

    Args:
        forge: the forge of the repository.
        owner: the owner of the repository.
        repo: its name.
        label: the label of epics.
        reports: whether results of actions are posted as comments on the epic: one for each item,
            which is edited.
        name: the name of the source; by default ``HOST:OWNER/REPO``.
        repos: other repositories whose issues may be children here; by default all of the owner.
        clock: says how old something is; by default that of the forge.
        priority: of the actions that wait, those of the highest priority start first.
    """

    def __init__(
        self,
        forge: Forge,
        owner: str,
        repo: str,
        *,
        label: str = "epic",
        reports: bool = True,
        name: str = "",
        repos: Collection[Repo] | None = None,
        clock: Clock | None = None,
        priority: int = 0,
    ) -> None:
        self._forge = forge
        self._repo = Repo(owner, repo)
        self._label = label
        self._reports = reports
        self._repos = repos
        self._clock = clock or getattr(forge, "clock", None) or SystemClock()
        self.name = name or f"{forge.host}:{owner}/{repo}"
        self.priority = priority
        self._last: _Reading | None = None
        self._details: tuple[datetime, dict[tuple[Repo, int], Details]] | None = None

    def poll(self) -> Iterator[PipelineSignal]:
        """Look at all epics."""
        reading, details = self._read_all()
        for epic in reading.epics:
            if is_complete(epic, self._repo, self._forge.site):
                yield self._signal(self._repo, epic)
        for epic, repo, number in reading.todo:
            if (child := reading.children.get((repo, number))) is not None:
                pull = reading.pulls[repo, number]
                found = details.get((repo, pull.number), _UNKNOWN) if pull else _UNKNOWN
                yield self._of_child(epic, repo, child, pull, found)

    @property
    def label(self) -> str:
        """The label of epics."""
        return self._label

    @property
    def epics(self) -> int:
        """How many epics the last poll found."""
        return len(self._last.epics) if self._last else 0

    @property
    def limits(self) -> Sequence[RateLimit]:
        """The rate limits of the forge's token, as the last answers had them."""
        return getattr(self._forge, "limits", ())

    def rights(self) -> Rights:
        """What the token may do in the repository, and what its default branch requires."""
        return self._forge.rights(self._repo)

    def report(self, result: ActionResult) -> None:
        """Post the result of an action as a comment on the epic, or edit the one of its item.

        A comment that quotes it, or that a person has added to, is not edited.
        """
        if not (self._reports and result.epic):
            return
        marker = f"<!-- core-infra-report {result.item} -->"
        text = f"{_comment(result)}\n\n{marker}"
        for one in self._forge.comments(self._repo, result.epic, None):
            if _is_report(one.body, marker):
                try:
                    if one.body != text:
                        self._forge.edit_comment(self._repo, one.id, text)
                except (ForgeRefusedError, ForgeNotFoundError):
                    continue  # somebody else's
                return
        self._forge.comment(self._repo, result.epic, text)

    def close(self) -> None:
        """Close the connections of its forge."""
        self._forge.close()

    def refresh(self) -> None:
        """Read everything at the next poll, however new what is known is."""
        self._last = self._details = None

    def _read_all(self) -> tuple[_Reading, dict[tuple[Repo, int], Details]]:
        last = self._last
        if last is not None and self._clock.now() - last.at >= _READ_AGAIN:
            last = None
        details = self._known_details()
        asked: Collection[Repo] = ()
        if last is not None and details is None:
            details = self._read_details(last)
            asked = last.wanted.keys()
        # Asked before the rest: what changes while that is read is news at the next poll.
        repos = [self._repo, *(last.repos - {self._repo} if last else ())]
        news = [self._has_news(repo, after_details=repo in asked) for repo in repos]
        if last is None or any(news):
            self._last = self._details = details = None
            last = self._last = self._read()
        if details is None:
            details = self._read_details(last)
        return last, details

    def _has_news(self, repo: Repo, *, after_details: bool) -> bool:
        try:
            return self._forge.has_news(repo, self.name, after_details=after_details)
        except (ForgeRefusedError, ForgeNotFoundError):
            if repo == self._repo:
                raise
            return False  # logged when its children are read

    def _read(self) -> _Reading:
        now = self._clock.now()
        epics = list(self._forge.epics(self._repo, self._label))
        todo = [(epic, *child) for epic in epics for child in self._children_of(epic)]
        wanted: dict[Repo, dict[int, None]] = {}
        for _, repo, number in todo:
            wanted.setdefault(repo, {})[number] = None
        children: dict[tuple[Repo, int], Child] = {}
        for repo, numbers in wanted.items():
            try:
                some = self._forge.children(repo, numbers)
            except (ForgeRefusedError, ForgeNotFoundError) as error:
                if repo == self._repo:
                    raise
                _LOG.error("children in %s: %s", "/".join(repo), describe_error(error))
                continue
            children.update(((repo, number), child) for number, child in some.items())
        pulls = {key: _pull_of(child) for key, child in children.items()}
        return _Reading(now, epics, todo, children, pulls)

    def _children_of(self, epic: Epic) -> list[tuple[Repo, int]]:
        """The children of an epic that are not done, of repositories that are looked at."""
        found: dict[tuple[Repo, int], bool] = {}
        for box in tasks(epic.body, self._repo, self._forge.site):
            if box.child:
                key = (self._known(box.repo) if box.repo.name else self._repo, box.child)
                found[key] = found.get(key, True) and box.ticked
        for one in epic.sub_issues:
            found.setdefault((one.repo, one.number), not one.is_open)
        return [
            (repo, number)
            for (repo, number), is_done in found.items()
            if not is_done and self._is_ours(repo)
        ]

    def _known(self, repo: Repo) -> Repo:
        """A repository by the name that it has in the configuration; forges ignore case."""
        name = "/".join(repo).lower()
        return next((one for one in self._repos or () if "/".join(one).lower() == name), repo)

    def _is_ours(self, repo: Repo) -> bool:
        if repo == self._repo:
            return True
        if self._repos is None:
            return repo.owner.lower() == self._repo.owner.lower()
        return repo in self._repos

    def _known_details(self) -> dict[tuple[Repo, int], Details] | None:
        """The details of the last poll, if they are young enough."""
        # At the very same time only somebody who steps by hand asks again.
        if self._details is None:
            return None
        age = self._clock.now() - self._details[0]
        if not timedelta(0) < age < _DETAILS_AGAIN:
            return None
        found = self._details[1]
        if age > _DETAILS_FRESH:
            self._details = None  # so not at the next poll
        return found

    def _read_details(self, reading: _Reading) -> dict[tuple[Repo, int], Details]:
        """The details of open pull requests."""
        now = self._clock.now()
        found = {
            (repo, number): details
            for repo, some in reading.wanted.items()
            for number, details in self._forge.details(repo, some.values()).items()
        }
        self._details = (now, found)
        return found

    def _of_child(
        self, epic: Epic, repo: Repo, child: Child, pull: Pull | None, details: Details
    ) -> PipelineSignal:
        fields: dict[str, Any] = {
            "child_number": child.number,
            "assignee": child.assignee,
            "issue_title": child.title,
            "issue_body": child.body,
            "issue_labels": child.labels,
        }
        if pull is None:
            needs_coding = child.is_open and bool(child.assignee)
            return self._signal(repo, epic, needs_coding=needs_coding, **fields)
        return self._signal(repo, epic, **fields, **signal_fields(pull, details))

    def _signal(self, repo: Repo, epic: Epic, **rest: Any) -> PipelineSignal:
        return PipelineSignal(
            epic_number=epic.number,
            epic_repo="" if repo == self._repo else "/".join(self._repo),
            repo_owner=repo.owner,
            repo_name=repo.name,
            forge=self._forge.host,
            forge_url=self._forge.url,
            **rest,
        )


def _pull_of(child: Child) -> Pull | None:
    """The pull request of a child: an open one, else a merged one."""
    open_ = [pull for pull in child.pulls if pull.state == "OPEN"]
    if open_:
        return min(open_, key=lambda one: (one.is_fork, not one.is_default_base, one.number))
    merged = [pull for pull in child.pulls if pull.state == "MERGED"]
    return max(merged, key=lambda one: one.number, default=None)


def _comment(result: ActionResult) -> str:
    item = f"#{result.pr or result.child}" if result.pr or result.child else "this epic"
    if result.success:
        return f"`{result.action}` was done for {item}."
    return f"`{result.action}` failed for {item}:\n\n{in_block(result.error)}"


def _is_report(body: str, marker: str) -> bool:
    """Whether a comment is what :func:`_comment` has made, and nothing else."""
    text = body.replace("\r\n", "\n").rstrip()
    return text.endswith(marker) and bool(_REPORT.fullmatch(text.removesuffix(marker).rstrip()))
