"""The interface of a forge: what sources and handlers need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from core_infra.jobrunner._signal import CheckStatus, Mergeable, PrState


class Repo(NamedTuple):
    """A repository.

    Attributes:
        owner: the user or organisation.
        name: the name of the repository.
    """

    owner: str
    name: str


class Epic(NamedTuple):
    """An issue with a checklist.

    Attributes:
        number: the number of the issue.
        body: its text.
    """

    number: int
    body: str


class Child(NamedTuple):
    """An issue that the checklist of an epic names.

    Attributes:
        number: the number of the issue.
        title: its title.
        body: its text.
        is_open: whether it is open.
        assignee: the user that it is assigned to; empty without one.
    """

    number: int
    title: str
    body: str
    is_open: bool
    assignee: str


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
    """

    number: int
    title: str
    body: str
    state: PrState
    is_draft: bool
    sha: str
    mergeable: Mergeable


class Details(NamedTuple):
    """What needs a request for each pull request; the fields are those of a signal.

    Attributes:
        mergeable: whether it can be merged.
        check_status: the state of its checks.
        threads_total: the number of its review threads.
        threads_resolved: how many of them are resolved.
        last_commit_at: the time of its last commit.
        last_review_at: the time of its last review.
    """

    mergeable: Mergeable
    check_status: CheckStatus
    threads_total: int
    threads_resolved: int
    last_commit_at: datetime | None
    last_review_at: datetime | None


class Forge(Protocol):
    """The interface of GitHub, Forgejo and other forges. All methods raise ``Forge…Error``."""

    @property
    def host(self) -> str:
        """The host, as signals have it."""
        ...

    def epics(self, repo: Repo, label: str) -> Sequence[Epic]:
        """The open issues with a label."""
        ...

    def pulls(self, repo: Repo) -> Sequence[Pull]:
        """The open pull requests."""
        ...

    def closed_pulls(self, repo: Repo) -> Sequence[Pull]:
        """The pull requests that were closed or merged last, at least fifty of them."""
        ...

    def children(self, repo: Repo, numbers: Iterable[int]) -> dict[int, Child]:
        """Issues by their numbers; those that do not exist are missing."""
        ...

    def details(self, repo: Repo, pulls: Iterable[Pull]) -> dict[int, Details]:
        """What needs a request for each pull request; the fields are those of a signal."""
        ...

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now, and whether it is open."""
        ...

    def comments(self, repo: Repo, number: int, since: datetime) -> Iterable[str]:
        """The comments on an issue or pull request since a time."""
        ...

    def comment(self, repo: Repo, number: int, text: str) -> None:
        """Comment on an issue or pull request."""
        ...

    def edit_body(self, repo: Repo, number: int, body: str) -> None:
        """Replace an issue's text."""
        ...

    def close_issue(self, repo: Repo, number: int) -> None:
        """Close an issue."""
        ...

    def merge_when_ready(self, repo: Repo, number: int, sha: str) -> None:
        """Squash and merge a pull request once its checks pass, unless its head changes."""
        ...

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Whether a pull request is merged, or will be once its checks pass."""
        ...

    def publish(self, repo: Repo, number: int) -> None:
        """Mark a draft as ready for review; does nothing if it is not a draft."""
        ...

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Resolve the open conversations (GitHub), dismiss the requests for changes (Forgejo)."""
        ...

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        ...
