"""The port: what sources and handlers need of a forge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from core_infra.jobrunner._signal import CheckStatus, Mergeable, PrState


class Repo(NamedTuple):
    """A repository."""

    owner: str
    name: str


class Epic(NamedTuple):
    """An issue with a checklist."""

    number: int
    body: str


class Child(NamedTuple):
    """An issue that an epic names."""

    number: int
    title: str
    body: str
    is_open: bool
    assignee: str


class Pull(NamedTuple):
    """A pull request, as a list of them tells it."""

    number: int
    title: str
    body: str
    state: PrState
    is_draft: bool
    sha: str
    mergeable: Mergeable


class Details(NamedTuple):
    """What must be asked for each pull request."""

    mergeable: Mergeable
    check_status: CheckStatus
    threads_total: int
    threads_resolved: int
    last_commit_at: datetime | None
    last_review_at: datetime | None


class Forge(Protocol):
    """GitHub, Forgejo and their like. All methods raise the errors of ``forges.errors``."""

    @property
    def host(self) -> str:
        """What signals call it."""
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
        """What must be asked for each pull request."""
        ...

    def epic(self, repo: Repo, number: int) -> tuple[Epic, bool]:
        """An issue as it is now, and whether it is open."""
        ...

    def comments(self, repo: Repo, number: int, since: datetime) -> Iterable[str]:
        """What was commented on an issue or pull request since a moment."""
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
        """Squash a pull request as soon as all is in order, unless its head is another by then."""
        ...

    def is_merging(self, repo: Repo, number: int) -> bool:
        """Tell whether a pull request is merged, or will be as soon as all is in order."""
        ...

    def publish(self, repo: Repo, number: int) -> None:
        """Make a draft ready for review; nothing if it is."""
        ...

    def settle_reviews(self, repo: Repo, number: int) -> None:
        """Resolve the open conversations (GitHub), dismiss the requests for changes (Forgejo)."""
        ...

    def rehearsing(self, steps: list[str]) -> Self:
        """The same, but what would change something is put into *steps* instead of being sent."""
        ...
