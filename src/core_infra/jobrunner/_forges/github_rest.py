"""The parts of GitHub's REST answers that are used."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(strict=True, frozen=True)


class Issue(Model):
    """An issue, or a pull request seen as one."""

    number: int
    body: str | None = None
    state: str
    pull_request: dict[str, Any] | None = None


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
    merged_at: datetime | None = None
    head: Head


class Comment(Model):
    """A comment."""

    body: str = ""


class Problem(Model):
    """An error of GraphQL."""

    type: str = ""
    message: str


class Answer(Model):
    """An answer of GraphQL."""

    data: dict[str, Any] | None = None
    errors: list[Problem] = Field(default_factory=list)


ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(list[Issue])
PULLS = TypeAdapter(list[Pull])
COMMENTS = TypeAdapter(list[Comment])
ANSWER = TypeAdapter(Answer)
