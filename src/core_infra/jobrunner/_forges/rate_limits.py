"""When a forge may be asked again."""

from __future__ import annotations

import email.utils
import logging
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_LONGEST = timedelta(days=1)
"""GitHub's limits begin anew each hour; what says more than this is a mistake."""
_UNTOLD = timedelta(seconds=60)
"""What GitHub asks for after a secondary limit that does not say how long."""
_ABSURD = 10.0 * 365 * 86400
"""More seconds than this, and there may be no such date."""
_FAILED = 400
_TOO_MANY = 429
_FORBIDDEN = 403


def retry_at(
    status: int, headers: Mapping[str, str], text: str, *, now: datetime
) -> datetime | None:
    """Tell from an answer when to ask again; None if it is about no limit.

    Any failure may say so by a Retry-After: a forge that is maintained (503) does, too.
    See https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
    """
    if status < _FAILED:
        return None
    moment = _after(headers.get("retry-after", ""), now)
    if status not in {_TOO_MANY, _FORBIDDEN}:
        return moment and _bounded(moment, now)
    if moment is None and headers.get("x-ratelimit-remaining") == "0":
        moment = reset(headers, now=now)
    if moment is None and (status == _TOO_MANY or "rate limit" in text.lower()):
        moment = now + _UNTOLD
    return moment and _bounded(moment, now)


def reset(headers: Mapping[str, str], *, now: datetime) -> datetime:
    """When a primary limit that is used up begins anew."""
    try:
        moment = datetime.fromtimestamp(float(headers.get("x-ratelimit-reset", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return now + _UNTOLD
    return _bounded(moment, now)


def _after(text: str, now: datetime) -> datetime | None:
    try:
        seconds = float(text)
        return None if math.isnan(seconds) else now + timedelta(seconds=min(seconds, _ABSURD))
    except (ValueError, OverflowError):
        pass
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bounded(moment: datetime, now: datetime) -> datetime:
    if moment > now + _LONGEST:
        _LOG.warning("a forge wants to be left alone until %s; it is asked in a day", moment)
    return max(now, min(moment, now + _LONGEST))
