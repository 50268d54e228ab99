"""The parts of GitHub's REST answers that are used."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(strict=True, frozen=True)


class Label(Model):
    """A label."""

    name: str | None = None


class Summary(Model):
    """How many sub-issues an issue has."""

    total: int = 0


class Issue(Model):
    """An issue, or a pull request seen as one."""

    number: int
    body: str | None = None
    state: str
    labels: list[Label | str] = Field(default_factory=list)
    pull_request: dict[str, Any] | None = None
    sub_issues_summary: Summary | None = None
    repository_url: str = ""

    def has_label(self, name: str) -> bool:
        """Whether it has a label; GitHub ignores case."""
        names = (one if isinstance(one, str) else one.name or "" for one in self.labels)
        return name.lower() in {one.lower() for one in names}


class Name(Model):
    """A repository in a list."""

    name: str
    archived: bool = False


class Comment(Model):
    """A comment."""

    id: int
    body: str = ""


class Problem(Model):
    """An error of GraphQL."""

    type: str = ""
    message: str
    path: list[Any] | None = None


class Answer(Model):
    """An answer of GraphQL."""

    data: dict[str, Any] | None = None
    errors: list[Problem] = Field(default_factory=list)


ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(list[Issue])
COMMENTS = TypeAdapter(list[Comment])
ANSWER = TypeAdapter(Answer)
REPOSITORIES = TypeAdapter(list[Name])


class Permissions(Model):
    """What the token's user may do."""

    push: bool = False


class Whole(Model):
    """A repository."""

    default_branch: str
    permissions: Permissions | None = None
    allow_squash_merge: bool = False
    allow_merge_commit: bool = False
    allow_rebase_merge: bool = False

    @property
    def may_write(self) -> bool:
        """Whether the token's user may write; an App's rights are not shown there."""
        return self.permissions is None or self.permissions.push

    @property
    def methods(self) -> tuple[str, ...]:
        """How pull requests may be merged."""
        allowed = {
            "squash": self.allow_squash_merge,
            "merge": self.allow_merge_commit,
            "rebase": self.allow_rebase_merge,
        }
        return tuple(name for name, is_allowed in allowed.items() if is_allowed)


class RequiredChecks(Model):
    """The checks that a branch requires."""

    contexts: list[str] = Field(default_factory=list)


class Protection(Model):
    """The protection of a branch."""

    required_status_checks: RequiredChecks | None = None


class Branch(Model):
    """A branch."""

    protection: Protection | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the required checks."""
        checks = self.protection and self.protection.required_status_checks
        return tuple(checks.contexts) if checks else ()


REPOSITORY = TypeAdapter(Whole)
BRANCH = TypeAdapter(Branch)
