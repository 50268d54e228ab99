"""Which fields of a signal a handler looked at."""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner.canonical import canonical
from core_infra.jobrunner.signal import PipelineSignal

if TYPE_CHECKING:
    from core_infra.jobrunner.ports import JobHandler


class Observed(PipelineSignal):
    """A signal that remembers which of its fields were read.

    Args:
        signal: what it is the same as.
    """

    __slots__ = ("_seen",)

    def __init__(self, signal: PipelineSignal) -> None:
        vars(self).update(vars(signal))
        object.__setattr__(self, "_seen", {})

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in _FIELDS:
            object.__getattribute__(self, "_seen")[name] = value
        return value


def decide(handler: JobHandler, signal: PipelineSignal) -> dict[str, object] | None:
    """Ask a handler whether it matches.

    Returns:
        If it does, the fields that it read in order to decide so, with their values.

    Raises:
        Exception: what the handler raises.
    """
    # Most handlers do not match most signals: only those that do are watched.
    if not handler.match(signal):
        return None
    observed = Observed(signal)
    if not handler.match(observed):
        return None
    seen: dict[str, object] = object.__getattribute__(observed, "_seen")
    return seen


def action_id(action: str, signal: PipelineSignal, seen: dict[str, object]) -> str:
    """Name an action: the same for the same handler, item and state, in any process.

    It has 128 bits, which is more than enough to never meet by chance.
    """
    key = [action, *_IDENTITY(signal), sorted(seen.items())]
    return hashlib.sha256(canonical(key)).hexdigest()[:32]


_FIELDS = frozenset(PipelineSignal.__dataclass_fields__)
_IDENTITY = operator.attrgetter(
    "forge", "repo_owner", "repo_name", "epic_number", "child_number", "pr_number"
)
