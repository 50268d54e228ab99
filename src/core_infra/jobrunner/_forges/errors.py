"""Errors of forges."""

from __future__ import annotations

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError


class ForgeUnavailableError(UnavailableError):
    """A forge does not answer, is broken, or redirects to another origin."""


class RateLimitedError(UnavailableError):
    """A forge has received too many requests.

    Attributes:
        retry_at: the earliest time of the next request.
    """


class ForgeRefusedError(CoreInfraError):
    """A forge refuses a request.

    Attributes:
        status: the HTTP status.
    """


class ForgeNotFoundError(NotFoundError):
    """A forge does not have something, or does not show it with this token."""


class ForgeAnswerError(InvalidError):
    """An answer is not as documented: cut off, too large, or of another type."""


class NotNowError(UnavailableError):
    """What an action was decided on is no longer so: nothing was done.

    A handler raises it; the action is recorded as withdrawn, and decided on again at the next poll.
    """
