"""Signals from the epics of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_infra.jobrunner._forges.forge import Child, Details, Epic, Pull, Repo
from core_infra.jobrunner._signal import PipelineSignal
from core_infra.jobrunner._sources.checklist import boxes, references

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from core_infra.jobrunner._forges.forge import Forge
    from core_infra.jobrunner._signal import ActionResult

_UNKNOWN = Details("UNKNOWN", "PENDING", 0, 0, None, None)


class EpicSource:
    """The children of a repository's epics, and their pull requests.

    An epic is an open issue with a label. Its checklist (``- [ ] #42``) names its children. The
    pull request of a child is the open one whose text references it, preferably with a word such
    as "closes"; without an open one, the merged one that changed last. There is one signal for each
    child that is not ticked, and one without a child for each epic whose boxes are all ticked.

    Args:
        forge: the forge of the repository.
        owner: the owner of the repository.
        repo: its name.
        label: the label of epics.
        reports: whether results of actions are posted as comments on the epic.
        name: the name of the source; by default ``HOST:OWNER/REPO``.
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
    ) -> None:
        self._forge = forge
        self._repo = Repo(owner, repo)
        self._label = label
        self._reports = reports
        self.name = name or f"{forge.host}:{owner}/{repo}"

    def poll(self) -> Iterator[PipelineSignal]:
        """Look at all epics."""
        todo: list[tuple[Epic, int]] = []
        for epic in self._forge.epics(self._repo, self._label):
            found = list(boxes(epic.body))
            children = dict.fromkeys(box.child for box in found if not box.ticked)
            if found and not children:
                yield self._signal(epic=epic.number)
            todo += [(epic, child) for child in children]
        if todo:
            yield from self._of_children(todo)

    def report(self, result: ActionResult) -> None:
        """Post the result of an action as a comment on the epic."""
        if self._reports and result.epic:
            self._forge.comment(self._repo, result.epic, _comment(result))

    def _of_children(self, todo: list[tuple[Epic, int]]) -> Iterator[PipelineSignal]:
        numbers = dict.fromkeys(child for _, child in todo)
        pulls = _pull_of_each(numbers, self._forge.pulls(self._repo))
        if missing := numbers.keys() - pulls.keys():
            merged = [
                pull for pull in self._forge.closed_pulls(self._repo) if pull.state == "MERGED"
            ]
            pulls |= _pull_of_each(missing, merged)
        children = self._forge.children(self._repo, numbers)
        open_ = {pull.number: pull for pull in pulls.values() if pull.state == "OPEN"}
        details = self._forge.details(self._repo, open_.values())
        for epic, number in todo:
            if (child := children.get(number)) is not None:
                yield self._of_child(epic, child, pulls.get(number), details)

    def _of_child(
        self, epic: Epic, child: Child, pull: Pull | None, details: Mapping[int, Details]
    ) -> PipelineSignal:
        fields: dict[str, Any] = {
            "child": child.number,
            "assignee": child.assignee,
            "issue_title": child.title,
            "issue_body": child.body,
        }
        if pull is None:
            needs_coding = child.is_open and bool(child.assignee)
            return self._signal(epic=epic.number, needs_coding=needs_coding, **fields)
        return self._signal(
            epic=epic.number,
            pr=pull.number,
            pr_state=pull.state,
            is_draft=pull.is_draft,
            last_commit_sha=pull.sha,
            **fields,
            **details.get(pull.number, _UNKNOWN)._asdict(),
        )

    def _signal(self, *, epic: int, child: int = 0, pr: int = 0, **rest: Any) -> PipelineSignal:
        return PipelineSignal(
            epic_number=epic,
            child_number=child,
            pr_number=pr,
            repo_owner=self._repo.owner,
            repo_name=self._repo.name,
            forge=self._forge.host,
            **rest,
        )


def _pull_of_each(numbers: Iterable[int], pulls: Iterable[Pull]) -> dict[int, Pull]:
    """The pull request of each child: the first that closes it, else the first that names it."""
    closing: dict[int, Pull] = {}
    naming: dict[int, Pull] = {}
    for pull in pulls:
        named, closed = references(pull.body)
        for number in closed:
            closing.setdefault(number, pull)
        for number in named:
            naming.setdefault(number, pull)
    every = naming | closing
    return {number: every[number] for number in numbers if number in every}


def _comment(result: ActionResult) -> str:
    item = f"#{result.pr or result.child}" if result.pr or result.child else "this epic"
    if result.success:
        return f"`{result.action}` was done for {item}."
    # In a block, so that nothing in it is a mention, a link or a command.
    error = result.error.replace("`", "'")
    return f"`{result.action}` failed for {item}:\n\n```\n{error}\n```"
