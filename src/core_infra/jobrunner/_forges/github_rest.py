"""The parts of GitHub's REST answers that are used."""

from __future__ import annotations

from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from core_infra.jobrunner._forges.rest_answers import Model


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


class Changed(Model):
    """When an issue or a pull request was last changed."""

    updated_at: str


class Problem(Model):
    """An error of GraphQL."""

    type: str | None = None
    message: str = "it does not say why"
    path: list[Any] | None = None


class Answer(Model):
    """An answer of GraphQL."""

    data: dict[str, Any] | None = None
    errors: list[Problem] | None = None


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


ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(list[Issue])
_CHANGES = TypeAdapter(list[Changed])
ANSWER = TypeAdapter(Answer)
BRANCH = TypeAdapter(Branch)


def changed_at(issues: bytes) -> str:
    """When the issues of a list were last changed; empty if it does not say so."""
    try:
        return max((one.updated_at for one in _CHANGES.validate_json(issues)), default="")
    except ValidationError:
        return ""
