"""Signals, the state of an item at a poll; and the results of acting on them."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaValidator, core_schema, to_json

from core_infra.errors import InvalidError

SignalType: TypeAlias = Literal["", "agent_completion"]
PrState: TypeAlias = Literal["", "OPEN", "MERGED", "CLOSED"]
"""The state of a pull request; empty if the child has none."""
Mergeable: TypeAlias = Literal["MERGEABLE", "CONFLICTING", "UNKNOWN"]
CheckStatus: TypeAlias = Literal["SUCCESS", "FAILURE", "PENDING"]
Number: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
"""A number or a count; many JSON readers change larger ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSignal:
    """The state of one child of an epic, and of its pull request, at the moment of a poll.

    Attributes:
        epic_number: the issue whose checklist names the child.
        child_number: the child's issue; 0 if the signal is about the epic itself.
        pr_number: the child's pull request; 0 if it has none.
        repo_owner: the user or organisation.
        repo_name: the repository.
        forge: the host of the repository, such as ``github.com``; empty without one.
        forge_url: the address of the forge's pages.
        pr_state: OPEN, MERGED, CLOSED, or empty without a pull request.
        is_draft: whether the pull request is a draft.
        mergeable: MERGEABLE, CONFLICTING or UNKNOWN.
        check_status: SUCCESS, FAILURE or PENDING, of all checks together.
        threads_total: conversations of reviewers (on Forgejo: reviews that request changes).
        threads_resolved: how many of them are resolved (dismissed).
        last_commit_sha: the head of the pull request.
        last_commit_at: the time of that commit.
        last_review_at: the time of the last review.
        needs_coding: the child is open, assigned, and has no pull request.
        assignee: the user that the child is assigned to.
        issue_title: the title of the child.
        issue_body: its text; not to be trusted.
        epic_repo: ``owner/name`` of the epic, if it is in another repository than the child.
        issue_labels: the names of the child's labels.
        pr_title: the title of the pull request; not to be trusted.
        author: the user that opened the pull request.
        base_branch: the branch that it is to be merged into.
        is_default_base: whether that is the repository's default branch.
        is_fork: whether its head is in another repository.
        labels: the names of its labels.
        checks: the name and state of each check.
        threads_outdated: open conversations that the forge says are about an earlier commit.
        approvals: how many reviewers approve of it, by the last review of each.
        changes_requested: how many reviewers want changes, by the last review of each.
        type: ``agent_completion`` for the report of an agent about a child; empty for a state.
        success: whether the agent reports that it has done its work.
        error: what went wrong for it; not to be trusted.
        message: what else it reports; not to be trusted.
    """

    epic_number: Number = 0
    child_number: Number = 0
    pr_number: Number = 0
    repo_owner: str = ""
    repo_name: str = ""
    forge: str = ""
    forge_url: str = ""
    pr_state: PrState = ""
    is_draft: bool = False
    mergeable: Mergeable = "UNKNOWN"
    check_status: CheckStatus = "PENDING"
    threads_total: Number = 0
    threads_resolved: Number = 0
    last_commit_sha: str = ""
    last_commit_at: AwareDatetime | None = None
    last_review_at: AwareDatetime | None = None
    needs_coding: bool = False
    assignee: str = ""
    issue_title: str = ""
    issue_body: str = ""
    epic_repo: str = ""
    issue_labels: tuple[str, ...] = ()
    pr_title: str = ""
    author: str = ""
    base_branch: str = ""
    is_default_base: bool = False
    is_fork: bool = False
    labels: tuple[str, ...] = ()
    checks: tuple[tuple[str, CheckStatus], ...] = ()
    threads_outdated: Number = 0
    approvals: Number = 0
    changes_requested: Number = 0
    type: SignalType = ""
    success: bool = False
    error: str = ""
    message: str = ""

    @property
    def repo_full_name(self) -> str:
        """``owner/name``."""
        return f"{self.repo_owner}/{self.repo_name}"

    @property
    def item(self) -> str:
        """``owner/name#number`` of the pull request, the child or the epic."""
        number = self.pr_number or self.child_number or self.epic_number
        return f"{self.repo_full_name}#{number}"

    @property
    def has_unresolved_threads(self) -> bool:
        """Whether a conversation is not resolved."""
        return self.threads_total > self.threads_resolved

    def to_record(self, *, bodies: bool) -> dict[str, Any]:
        """What a journal has: the fields that differ from their defaults.

        Args:
            bodies: whether the text of the issue is kept.
        """
        mine = vars(self)
        fields = {
            name: value
            for name, value in self.to_dict().items()
            if mine[name] != _DEFAULTS.get(name, ...)
        }
        if not bodies:
            fields.pop("issue_body", None)
        return fields

    def to_dict(self) -> dict[str, Any]:
        """The fields, as values that JSON can have."""
        fields = dict(vars(self))
        for name in ("last_commit_at", "last_review_at"):
            if fields[name] is not None:
                fields[name] = stamp(fields[name])
        for name in ("labels", "issue_labels"):
            fields[name] = list(fields[name])
        fields["checks"] = [list(check) for check in fields["checks"]]
        return fields

    @classmethod
    def from_dict(cls, fields: object, *, where: str = "a signal") -> PipelineSignal:
        """Make a signal from the result of :meth:`to_dict`, or from fields written by hand.

        Args:
            fields: a mapping from names to values; what is left out has its default.
            where: what errors call the signal.

        Raises:
            InvalidError: it is not a mapping, a field is unknown, a value has the wrong type, or
                the repository is missing.
        """
        try:
            signal = _ADAPTER.validate_python(fields, strict=False)
        except ValidationError as error:
            raise InvalidError(f"cannot use {where}", why=_message(error), signal=fields) from error
        if isinstance(fields, dict) and (unknown := sorted(set(fields) - _NAMES)):
            raise InvalidError(
                f"cannot use {where}",
                why=f"there is no field {', '.join(map(str, unknown))}",
                todo=f"The fields are {', '.join(sorted(_NAMES))}.",
                signal=fields,
            )
        for name in ("repo_owner", "repo_name"):
            if not getattr(signal, name):
                raise InvalidError(f"cannot use {where}", why=f"{name} is empty", signal=fields)
        return signal


_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(PipelineSignal)
    if field.name not in {"repo_owner", "repo_name"}
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionResult:
    """The result of one action.

    Attributes:
        action: the name of the handler.
        repo_owner: as in the signal.
        repo_name: as in the signal.
        epic: the signal's ``epic_number``.
        child: the signal's ``child_number``.
        pr: the signal's ``pr_number``.
        success: whether it was done.
        error: what went wrong; empty if nothing did.
        ts: when the action ended, with a time zone.
        duration_ms: how long it took, in milliseconds.
        cycle: the poller's cycle in which it started.
    """

    action: str
    repo_owner: str
    repo_name: str
    epic: int = 0
    child: int = 0
    pr: int = 0
    success: bool = True
    error: str = ""
    ts: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    duration_ms: int = 0
    cycle: int = 0

    @property
    def item(self) -> str:
        """``owner/name#number``, as in the signal."""
        return f"{self.repo_owner}/{self.repo_name}#{self.pr or self.child or self.epic}"

    @classmethod
    def of(cls, signal: PipelineSignal, action: str, **fields: Any) -> ActionResult:
        """Make the result of an action on a signal; *fields* are the rest."""
        return cls(
            action=action,
            repo_owner=signal.repo_owner,
            repo_name=signal.repo_name,
            epic=signal.epic_number,
            child=signal.child_number,
            pr=signal.pr_number,
            **fields,
        )


def stamp(moment: datetime) -> str:
    """A time as journals have it: UTC, with ``Z``.

    Raises:
        InvalidError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise InvalidError(
            f"cannot use the time {moment.isoformat()}",
            why="it has no time zone",
            todo="Use datetime.now(UTC).",
        )
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat()[:-6]}Z"


def why_impossible(field: str, value: object) -> str:
    """Why a field of a signal can never have a value; empty if it can."""
    try:
        _FIELDS[field].validate_python(value, strict=True)
    except ValidationError as error:
        return _message(error).removeprefix("it: ")
    return ""


def why_unusable(found: object) -> str:
    """Why a signal of a source cannot be acted on; empty if it can.

    A signal is not checked when it is made. With values of wrong types, its line in the journal
    could not be written, or not be read again.
    """
    if not isinstance(found, PipelineSignal):
        return f"it must be a PipelineSignal, but is of the type {type(found).__name__}"
    try:
        _VALUES.validate_python(vars(found), strict=True)
    except ValidationError as error:
        return _message(error)
    return "" if found.repo_owner and found.repo_name else f"{found.item} names no repository"


_ADAPTER = TypeAdapter(PipelineSignal)
_FIELDS: dict[str, TypeAdapter[object]] = {
    name: TypeAdapter(kind)
    for name, kind in get_type_hints(PipelineSignal, include_extras=True).items()
}
_NAMES = _FIELDS.keys()
_VALUES = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(adapter.core_schema)
            for name, adapter in _FIELDS.items()
        }
    )
)


def _message(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def canonical_json(value: object) -> bytes:
    """A value as JSON on one line, in UTF-8; members keep their order.

    Types that JSON does not have are written as text.
    """
    try:
        return to_json(value)
    except PydanticSerializationError:  # half of a surrogate pair, or an unknown type
        return _ENCODER.encode(value).encode("ascii")


_ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))
