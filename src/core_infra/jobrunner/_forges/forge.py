"""The interface of a forge: what sources and handlers need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from core_infra.jobrunner._signal import CheckStatus, Mergeable, PrState


MergeMethod: TypeAlias = Literal["squash", "merge", "rebase", "queue"]


class Repo(NamedTuple):
    """A repository.

    Attributes:
        owner: the user or organisation.
        name: the name of the repository.
    """

    owner: str
    name: str


class SubIssue(NamedTuple):
    """An issue that the forge itself, and not the text, lists below an epic.

    Attributes:
        number: the number of the issue.
        repo: its repository.
        is_open: whether it is open.
    """

    number: int
    repo: Repo
    is_open: bool


class Epic(NamedTuple):
    """An issue with a checklist.

    Attributes:
        number: the number of the issue.
        body: its text.
        sub_issues: the issues below it, where the forge has such a list.
    """

    number: int
    body: str
    sub_issues: tuple[SubIssue, ...] = ()


class Pull(NamedTuple):
    """A pull request, with what a list of pull requests has.

    Attributes:
        number: the number of the pull request.
        title: its title.
        body: its text.
        state: OPEN, MERGED or CLOSED.
        is_draft: whether it is a draft.
        sha: its head.
        mergeable: MERGEABLE, CONFLICTING or UNKNOWN.
        author: the user that opened it.
        base: the branch that it is to be merged into.
        is_default_base: whether that is the repository's default branch.
        is_fork: whether its head is in another repository.
        labels: the names of its labels.
    """

    number: int
    title: str
    body: str
    state: PrState
    is_draft: bool
    sha: str
    mergeable: Mergeable
    author: str = ""
    base: str = ""
    is_default_base: bool = True
    is_fork: bool = False
    labels: tuple[str, ...] = ()


class Child(NamedTuple):
    """An issue that the checklist of an epic names.

    Attributes:
        number: the number of the issue.
        title: its title.
        body: its text.
        is_open: whether it is open.
        assignee: the user that it is assigned to; empty without one.
        pulls: the pull requests of its repository that close it by the forge's own word.
        labels: the names of its labels.
    """

    number: int
    title: str
    body: str
    is_open: bool
    assignee: str
    pulls: tuple[Pull, ...] = ()
    labels: tuple[str, ...] = ()


class Details(NamedTuple):
    """What needs a request for each pull request; the fields are those of a signal.

    Attributes:
        mergeable: whether it can be merged.
        check_status: the state of its checks.
        threads_total: the number of its review threads.
        threads_resolved: how many of them are resolved.
        last_commit_at: the time of its last commit.
        last_review_at: the time of its last review.
        threads_outdated: how many open ones the forge says are about an earlier commit.
        checks: the state of each check, by name.
        approvals: how many reviewers approve of it, by the last review of each.
        changes_requested: how many want changes.
    """

    mergeable: Mergeable
    check_status: CheckStatus
    threads_total: int
    threads_resolved: int
    last_commit_at: datetime | None
    last_review_at: datetime | None
    threads_outdated: int = 0
    checks: tuple[tuple[str, CheckStatus], ...] = ()
    approvals: int = 0
    changes_requested: int = 0


class Comment(NamedTuple):
    """A comment on an issue or pull request.

    Attributes:
        id: identifies it.
        body: its text.
    """

    id: int
    body: str


class Rights(NamedTuple):
    """What a token may do in a repository, and what its default branch requires.

    Attributes:
        may_write: whether it may write issues and pull requests.
        methods: how pull requests may be merged.
        branch: the default branch.
        required_checks: the checks that this branch requires, as far as the token may see them.
    """

    may_write: bool
    methods: tuple[str, ...]
    branch: str
    required_checks: tuple[str, ...]


class Merge(NamedTuple):
    """How a pull request is merged.

    Attributes:
        method: ``squash``, ``merge``, ``rebase``, or ``queue`` for GitHub's merge queue.
        update: whether a branch that is behind its base is updated, if the forge demands that.
        any_check: whether checks may fail, because those that count were looked at by name.
    """

    method: MergeMethod = "squash"
    update: bool = False
    any_check: bool = False


class Forge(Protocol):
    """The interface of GitHub, Forgejo and other forges. All methods raise ``Forge…Error``."""

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        ...

    @property
    def site(self) -> str:
        """The server as addresses of issues have it: host, port and path."""
        ...

    @property
    def url(self) -> str:
        """The address of the server's pages."""
        ...

    def has_news(self, repo: Repo, reader: str = "", *, after_details: bool = False) -> bool:
        """Whether anything but checks may have changed since a reader last asked this.

        Args:
            repo: the repository.
            reader: who asks.
            after_details: whether :meth:`details` was called just now, whose answer may say it.
        """
        ...

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues that have a label."""
        ...

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers, with their pull requests; without those that do not exist."""
        ...

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """What needs a request for each pull request; one that cannot be read is missing."""
        ...

    def pull(self, repo: Repo, number: int) -> tuple[Pull, Details]:
        """A pull request as it is now."""
        ...

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now, and whether it is open."""
        ...

    def comments(self, repo: Repo, number: int, since: datetime | None) -> Iterable[Comment]:
        """The comments on an issue or pull request since a time; None for all."""
        ...

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        ...

    def edit_comment(self, repo: Repo, comment: int, text: str) -> None:
        """Replace the text of a comment."""
        ...

    def edit_body(self, repo: Repo, number: int, change: Callable[[str], str]) -> None:
        """Change an issue's text, and keep what a person writes at the same moment, if possible.

        Args:
            repo: the repository.
            number: the number of the issue.
            change: makes the new text of the present one; may be called several times.
        """
        ...

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue."""
        ...

    def relabel(self, repo: Repo, number: int, add: str, remove: Collection[str]) -> None:
        """Add a label to an issue, and remove others; the repository gets the label, too."""
        ...

    def merge(self, repo: Repo, number: int, sha: str, how: Merge) -> None:
        """Merge a pull request now, only this very head.

        Raises:
            NotNowError: the forge does not allow it at this moment.
            ForgeRefusedError: the forge refuses it for good.
        """
        ...

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether a pull request is merged, or waits in a merge queue."""
        ...

    def publish(self, repo: Repo, number: int) -> None:
        """Mark a draft as ready for review; does nothing if it is not a draft."""
        ...

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Resolve conversations (GitHub), dismiss requests for changes (Forgejo): outdated ones."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...

    def rights(self, repo: Repo) -> Rights:
        """What the token may do, and what the default branch requires; changes nothing."""
        ...

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        ...


def checks_together(
    checks: Iterable[tuple[str, CheckStatus]],
) -> tuple[tuple[tuple[str, CheckStatus], ...], CheckStatus]:
    """The state of each check by its name, and of all together; without checks it is PENDING.

    Of several checks with one name, the worst counts.
    """
    worst: dict[str, CheckStatus] = {}
    for name, state in checks:
        known = worst.get(name)
        if known is None or _BADNESS[state] > _BADNESS[known]:
            worst[name] = state
    together: CheckStatus = max(worst.values(), key=_BADNESS.__getitem__, default="PENDING")
    return tuple(sorted(worst.items())), together


_BADNESS: dict[CheckStatus, int] = {"SUCCESS": 0, "PENDING": 1, "FAILURE": 2}


def signal_fields(pull: Pull, details: Details) -> dict[str, Any]:
    """The fields of a signal that are about a pull request."""
    return {
        "pr_number": pull.number,
        "pr_title": pull.title,
        "pr_state": pull.state,
        "is_draft": pull.is_draft,
        "last_commit_sha": pull.sha,
        "author": pull.author,
        "base_branch": pull.base,
        "is_default_base": pull.is_default_base,
        "is_fork": pull.is_fork,
        "labels": pull.labels,
        **details._asdict(),
    }
