"""Logs for machines: one JSON object per line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_infra.jobrunner._interfaces import Job


def facts(job: Job) -> dict[str, Any]:
    """What a log says of a job besides its text: the argument ``extra`` of a logger."""
    signal = job.signal
    return {
        "facts": {
            "action": job.action,
            "id": job.id,
            "repo": signal.repo_full_name,
            "epic": signal.epic_number,
            "child": signal.child_number,
            "pr": signal.pr_number,
            "cycle": job.cycle,
            "attempt": job.attempt,
        }
    }


class JsonFormatter(logging.Formatter):
    """Formats records as JSON: ts, level, logger, message, and the facts of the record.

    Facts are what was logged with ``extra={"facts": {...}}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
