"""The parts of Forgejo's REST answers that are used."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it

from pydantic import TypeAdapter

from core_infra.jobrunner._forges.rest_answers import Model


class User(Model):
    """A user."""

    login: str


class Label(Model):
    """A label."""

    id: int = 0
    name: str


class Issue(Model):
    """An issue, or a pull request seen as one."""

    number: int
    title: str
    body: str | None = None
    state: str
    labels: list[Label] | None = None
    assignees: list[User] | None = None
    pull_request: object = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(label.name for label in self.labels or ())


class Repository(Model):
    """The repository of a branch."""

    full_name: str = ""
    default_branch: str = ""


class Branch(Model):
    """The head or the base of a pull request."""

    ref: str = ""
    sha: str = ""
    repo_id: int = 0
    repo: Repository | None = None


class Pull(Model):
    """A pull request."""

    number: int
    title: str
    body: str | None = None
    state: str
    draft: bool = False
    merged: bool = False
    mergeable: bool = False
    user: User | None = None
    labels: list[Label] | None = None
    head: Branch
    base: Branch | None = None
    updated_at: datetime | None = None


class Status(Model):
    """One check."""

    context: str = ""
    status: str
    id: int = 0


class Statuses(Model):
    """A page of the checks of a commit; its state is that of this page only."""

    state: str = ""
    statuses: list[Status] | None = None
    total_count: int = 0


class Reviewer(Model):
    """The author of a review."""

    id: int = 0
    login: str = ""


class Review(Model):
    """A review."""

    id: int
    state: str
    dismissed: bool = False
    stale: bool = False
    official: bool = True
    submitted_at: datetime | None = None
    user: Reviewer | None = None


class Committer(Model):
    """The time of a commit."""

    date: datetime


class CommitBody(Model):
    """The data of a commit."""

    committer: Committer


class Commit(Model):
    """A commit."""

    commit: CommitBody


class Protection(Model):
    """The protection of a branch."""

    enable_status_check: bool = False
    status_check_contexts: list[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the required checks."""
        return tuple(self.status_check_contexts or ()) if self.enable_status_check else ()


ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(list[Issue])
PULL = TypeAdapter(Pull)
PULLS = TypeAdapter(list[Pull])
STATUSES = TypeAdapter(Statuses)
REVIEWS = TypeAdapter(list[Review])
COMMIT = TypeAdapter(Commit)
LABELS = TypeAdapter(list[Label])
PROTECTION = TypeAdapter(Protection)
