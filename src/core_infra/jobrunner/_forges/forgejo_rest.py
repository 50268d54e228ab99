"""The parts of Forgejo's REST answers that are used."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it

from pydantic import BaseModel, ConfigDict, TypeAdapter


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(strict=True, frozen=True)


class User(Model):
    """The user that an issue is assigned to."""

    login: str


class Issue(Model):
    """An issue, or a pull request seen as one."""

    number: int
    title: str
    body: str | None = None
    state: str
    assignees: list[User] | None = None
    pull_request: object = None


class Head(Model):
    """The head of a pull request."""

    sha: str


class Pull(Model):
    """A pull request."""

    number: int
    title: str
    body: str | None = None
    state: str
    draft: bool = False
    merged: bool = False
    mergeable: bool = False
    head: Head


class Status(Model):
    """The combined state of all checks."""

    state: str


class Review(Model):
    """A review."""

    id: int
    state: str
    dismissed: bool = False
    submitted_at: datetime | None = None


class Committer(Model):
    """The time of a commit."""

    date: datetime


class CommitBody(Model):
    """The data of a commit."""

    committer: Committer


class Commit(Model):
    """A commit."""

    commit: CommitBody


class Comment(Model):
    """A comment."""

    body: str = ""


ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(list[Issue])
PULL = TypeAdapter(Pull)
PULLS = TypeAdapter(list[Pull])
STATUS = TypeAdapter(Status)
REVIEWS = TypeAdapter(list[Review])
COMMIT = TypeAdapter(Commit)
COMMENTS = TypeAdapter(list[Comment])
