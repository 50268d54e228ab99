"""Log lines about jobs and errors, for people and for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from core_infra.jobrunner._interfaces import Job

_LENGTH_MAX = 2000


def describe_error(error: BaseException) -> str:
    """An error as one line of limited length, as journals and logs have it."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error of a handler may itself be broken
        text = ""
    if isinstance(error, CoreInfraError) and error.todo:
        head = text.removesuffix(error.todo).rstrip()
        text = f"{head}{'' if head.endswith(('.', '!', '?', '…')) else '.'} {error.todo}"
    return shortened(" ".join(text.split()) or type(error).__name__)


def shortened(text: str) -> str:
    """The beginning of a text, short enough for a line of the journal, as valid UTF-8.

    JSON may have half a surrogate pair, which no file, page or message can have.
    """
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _LENGTH_MAX else f"{text[:_LENGTH_MAX]}…"


def job_fields(job: Job) -> dict[str, Any]:
    """The argument ``extra`` of a logger: what identifies a job in a line of JSON."""
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
    """Formats log records as one JSON object per line: ts, level, logger, message, and more.

    What was logged with ``extra={"facts": {...}}`` becomes further members.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
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
