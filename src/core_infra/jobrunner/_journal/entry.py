"""One line of a journal, as a value and as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError
from core_infra.jobrunner._journal.paths import log_path
from core_infra.jobrunner._signal import canonical_json, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


class Phase(enum.StrEnum):
    """The event in the life of an action that a line of the journal records."""

    INTENT = "intent"
    """It is about to start."""
    RESULT = "result"
    """It has ended, with success or without."""
    UNKNOWN = "unknown"
    """It was started, and it is unknown whether it was done."""
    INTERRUPTED = "interrupted"
    """It was started, never ended, and a look-up showed that it was not done."""
    WITHDRAWN = "withdrawn"
    """It was not started after all, or found that there was nothing to do any more."""
    GIVEN_UP = "given_up"
    """It failed in a way that another attempt does not change."""
    RETRY = "retry"
    """A person wants it to be tried again."""
    RESOLVED = "resolved"
    """A person says that it is done."""
    FORGOTTEN = "forgotten"
    """A person wants it to be as if it had never been started."""


# Not frozen: that would double the time to make one.
@dataclasses.dataclass(kw_only=True, slots=True)
class Entry:
    """One line of a journal.

    Attributes:
        phase: the event that it records.
        ts: the time, UTC.
        action: the name of the handler.
        owner: of the repository.
        name: of the repository.
        forge: the host of the repository.
        epic: the number of the epic.
        child: the number of the child.
        pr: the number of the pull request.
        cycle: the poller's cycle.
        signals: the part of the signal that every line has.
        signal: the whole signal; intents only.
        id: the id of the action, in all of its lines; empty if it had no intent.
        attempt: 1 for the first attempt.
        success: None for intents and withdrawn actions.
        error: what went wrong.
        duration_ms: how long the action took, in milliseconds.
    """

    phase: Phase
    ts: datetime
    action: str
    owner: str
    name: str
    forge: str = ""
    epic: int = 0
    child: int = 0
    pr: int = 0
    cycle: int = 0
    signals: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    signal: Mapping[str, Any] | None = None
    id: str = ""
    attempt: int = 1
    success: bool | None = None
    error: str = ""
    duration_ms: int = 0
    _signal_text: str = dataclasses.field(default="", init=False, repr=False, compare=False)

    @classmethod
    def of(cls, signal: PipelineSignal, phase: Phase, action: str, /, **fields: Any) -> Entry:
        """Make the entry for an action on a signal; *fields* are the rest."""
        return cls(
            phase=phase,
            action=action,
            owner=signal.repo_owner,
            name=signal.repo_name,
            forge=signal.forge,
            epic=signal.epic_number,
            child=signal.child_number,
            pr=signal.pr_number,
            signals={
                "pr_state": signal.pr_state,
                "is_draft": signal.is_draft,
                "check_status": signal.check_status,
                "mergeable": signal.mergeable,
                "threads_total": signal.threads_total,
                "threads_resolved": signal.threads_resolved,
            },
            **fields,
        )

    @classmethod
    def of_result(cls, signal: PipelineSignal, result: ActionResult, /, **fields: Any) -> Entry:
        """Make the entry for the result of an action; *fields* are the rest."""
        return cls.of(
            signal,
            fields.pop("phase", Phase.RESULT),
            result.action,
            ts=result.ts,
            cycle=result.cycle,
            success=result.success,
            error=result.error,
            duration_ms=result.duration_ms,
            **fields,
        )

    def path(self) -> str:
        """The path of the file that the entry belongs in.

        Raises:
            InvalidError: the owner or the repository is empty, or ``ts`` has no time zone.
        """
        if self.ts.tzinfo is None:
            stamp(self.ts)
        return log_path(self.owner, self.name, self.ts.astimezone(UTC).date())

    def encode(self) -> bytes:
        """The entry as a JSON object without its closing brace."""
        # By hand: this is half of the cost of an append, and a general encoder takes twice as long.
        text = (
            f'{{"ts":"{stamp(self.ts)}","epic":{self.epic:d},"child":{self.child:d},"pr":{self.pr:d}'
            f',"repo":{_quote(f"{self.owner}/{self.name}")},"action":{_quote(self.action)}'
            f',"signals":{canonical_json(self.signals).decode()}'
        )
        if self.success is not None:
            error = f',"error":{_quote(self.error)}' if self.error else ""
            success = "true" if self.success else "false"
            text += f',"result":{{"success":{success}{error},"duration_ms":{self.duration_ms:d}}}'
        text += f',"cycle":{self.cycle:d},"phase":"{self.phase}"'
        if self.id:
            text += f',"id":{_quote(self.id)},"attempt":{self.attempt:d}'
        if self.forge:
            text += f',"forge":{_quote(self.forge)}'
        if self.signal is not None:
            text += f',"signal":{self.signal_text()}'
        return text.encode()

    def signal_text(self) -> str:
        """The signal as JSON, encoded once for the journal and the index."""
        if not self._signal_text:
            self._signal_text = canonical_json(self.signal or {}).decode()
        return self._signal_text

    @classmethod
    def decode(cls, line: bytes) -> Entry:
        """Read a line.

        Raises:
            InvalidError: it is not an entry.
        """
        try:
            found = json.loads(line)
            owner, _, name = _one(found, "repo", str).partition("/")
            result = found.get("result") or {}
            # All types are checked: readers of entries rely on them.
            return cls(
                phase=Phase(found["phase"]),
                ts=_moment(found["ts"]),
                action=_one(found, "action", str),
                owner=owner,
                name=name,
                success=_one(result, "success", bool) if result else None,
                error=_one(result, "error", str) if "error" in result else "",
                duration_ms=_one(result, "duration_ms", int) if result else 0,
                **{key: _one(found, key, kind) for key, kind in _COPIED if key in found},
            )
        except _DECODE_ERRORS as error:
            raise InvalidError(
                f"cannot read the line {line[:200]!r}", why=f"{type(error).__name__}: {error}"
            ) from error


def _one(found: dict[str, Any], key: str, kind: type) -> Any:
    value: Any = found[key]
    right = type(value) is kind
    if right and kind is int:
        right = abs(value) <= _LARGEST
    elif right and kind is dict:
        # Lists of scalars, and of lists of those: what a signal has.
        right = not any(isinstance(one, dict) or _is_deep(one) for one in value.values())
    if not right:
        raise TypeError(f"{key} must be a different type or smaller")
    return value


def _is_deep(value: object, depth: int = 2) -> bool:
    return isinstance(value, list | dict) and (
        isinstance(value, dict) or not depth or any(_is_deep(one, depth - 1) for one in value)
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("ts has no time zone")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


_COPIED = (
    *(("epic", int), ("child", int), ("pr", int), ("cycle", int), ("attempt", int)),
    *(("signals", dict), ("signal", dict), ("id", str), ("forge", str)),
)
_LARGEST = 1 << 62
"""Larger numbers do not fit into the index."""
_DECODE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What decoding something other than an entry raises."""
# ASCII only: the line is valid UTF-8 even if a name has half a surrogate pair.
_quote = json.encoder.encode_basestring_ascii
