"""When a forge may be sent another request."""

from __future__ import annotations

import email.utils
import logging
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_DELAY_MAX = timedelta(days=1)
"""GitHub resets its limits every hour; a longer time than this is a mistake."""
_DEFAULT = timedelta(seconds=60)
"""The delay that GitHub asks for after a secondary limit without a time."""
_SECONDS_MAX = 10.0 * 365 * 86400
"""With more seconds than this, the date may not exist."""
_FAILED = 400
_TOO_MANY = 429
_FORBIDDEN = 403


class RateLimit(NamedTuple):
    """What a forge says of a limit with an answer.

    Attributes:
        resource: the part of the API that it is for, such as ``core`` or ``graphql``.
        points: how many points there are in an hour.
        remaining: how many of them are left, by all that use the token.
        resets_at: when they are all there again.
    """

    resource: str
    points: int
    remaining: int
    resets_at: datetime


def shown(headers: Mapping[str, str], *, now: datetime) -> RateLimit | None:
    """The limit that an answer is counted against, if it says so."""
    try:
        points = int(headers["x-ratelimit-limit"])
        remaining = int(headers["x-ratelimit-remaining"])
    except (KeyError, ValueError):
        return None
    resource = headers.get("x-ratelimit-resource", "core")
    return RateLimit(resource, points, remaining, reset(headers, now=now))


def retry_at(
    status: int, headers: Mapping[str, str], text: str, *, now: datetime
) -> datetime | None:
    """When an answer allows the next request; None if it is not about a limit.

    Any failure may have a Retry-After, such as a 503 during maintenance.
    See https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
    """
    if status < _FAILED:
        return None
    moment = _after(headers, now)
    if status not in {_TOO_MANY, _FORBIDDEN}:
        return moment and _bounded(moment, now)
    if moment is None and headers.get("x-ratelimit-remaining") == "0":
        moment = reset(headers, now=now)
    if moment is None and (status == _TOO_MANY or is_about_limit(text)):
        moment = now + _DEFAULT
    return moment and _bounded(moment, now)


def is_about_limit(text: str) -> bool:
    """Whether a forge's text is about a limit; GitHub once called the secondary one "abuse"."""
    return "rate limit" in text.lower() or "abuse detection" in text.lower()


def limited(headers: Mapping[str, str], *, now: datetime) -> datetime:
    """When the next request is allowed, if an answer of any status is about a limit."""
    moment = _after(headers, now)
    if moment is None and headers.get("x-ratelimit-remaining") == "0":
        moment = reset(headers, now=now)
    return _bounded(moment or now + _DEFAULT, now)


def reset(headers: Mapping[str, str], *, now: datetime) -> datetime:
    """When a primary limit that is used up is reset."""
    try:
        moment = datetime.fromtimestamp(float(headers.get("x-ratelimit-reset", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return now + _DEFAULT
    return _bounded(moment - ahead(headers, now), now)


def ahead(headers: Mapping[str, str], now: datetime) -> timedelta:
    """How far the forge's clock is ahead of ours."""
    try:
        there = email.utils.parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return timedelta(0)
    return (there if there.tzinfo else there.replace(tzinfo=UTC)) - now


def _after(headers: Mapping[str, str], now: datetime) -> datetime | None:
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
        return None if math.isnan(seconds) else now + timedelta(seconds=min(seconds, _SECONDS_MAX))
    except (ValueError, OverflowError):
        pass
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - ahead(headers, now)


def _bounded(moment: datetime, now: datetime) -> datetime:
    if moment > now + _DELAY_MAX:
        _LOG.warning("a forge asks for no request until %s; the next one is sent in a day", moment)
    return max(now, min(moment, now + _DELAY_MAX))
