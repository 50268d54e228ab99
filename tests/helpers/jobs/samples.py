"""Signals and results as tests need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from core_infra.jobrunner import ActionResult, Entry, Phase, PipelineSignal

NOON = datetime(2026, 3, 4, 12, 0, 0, 500000, tzinfo=UTC)
FILE = "acme/widgets/2026-03-04.jsonl"


def signal(**fields: Any) -> PipelineSignal:
    given: dict[str, Any] = {
        "epic_number": 1,
        "child_number": 4,
        "pr_number": 5,
        "repo_owner": "acme",
        "repo_name": "widgets",
        "pr_state": "OPEN",
        "mergeable": "MERGEABLE",
        "check_status": "SUCCESS",
        "last_commit_sha": "abc",
    }
    return PipelineSignal(**given | fields)


def result(seen: PipelineSignal | None = None, **fields: Any) -> ActionResult:
    given: dict[str, Any] = {"ts": NOON, "duration_ms": 12, "cycle": 3}
    action = fields.pop("action", "enable_auto_merge")
    return ActionResult.of(seen or signal(), action, **given | fields)


def intent(number: int = 1, seen: PipelineSignal | None = None, **fields: Any) -> Entry:
    seen = seen or signal()
    given: dict[str, Any] = {"ts": NOON, "id": f"id-{number}", "signal": seen.to_dict()}
    return Entry.of(seen, Phase.INTENT, "enable_auto_merge", **given | fields)


def end(number: int = 1, **fields: Any) -> Entry:
    phase = fields.pop("phase", Phase.RESULT)
    attempt = fields.pop("attempt", 1)
    return Entry.of_result(
        signal(), result(**fields), id=f"id-{number}", phase=phase, attempt=attempt
    )
