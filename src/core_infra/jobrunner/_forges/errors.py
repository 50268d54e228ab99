"""What goes wrong with a forge."""

from __future__ import annotations

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError


class ForgeUnavailableError(UnavailableError):
    """It does not answer, is broken, or wants to be asked elsewhere."""


class RateLimitedError(UnavailableError):
    """It has been asked too often.

    Attributes:
        retry_at: when it may be asked again.
    """


class ForgeRefusedError(CoreInfraError):
    """It does not do what it was asked to.

    Attributes:
        status: its HTTP status.
    """


class ForgeNotFoundError(NotFoundError):
    """It does not know this, or does not show it with this token."""


class ForgeAnswerError(InvalidError):
    """Its answer is not what its description promises: cut off, too large, of another type."""
