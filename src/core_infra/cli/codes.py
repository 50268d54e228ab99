"""The exit codes of the command ``core-infra``."""

from __future__ import annotations

from core_infra import errors

UNAVAILABLE = 9
EXIT_CODES: tuple[tuple[type[errors.CoreInfraError], int], ...] = (
    (errors.NotFoundError, 3),
    (errors.AlreadyExistsError, 4),
    (errors.InvalidError, 5),
    (errors.WrongStateError, 6),
    (errors.TimeoutExpiredError, 7),
    (errors.CommandFailedError, 8),
    (errors.UnavailableError, UNAVAILABLE),
)
"""The exit code of each kind of error; any other error is 1, wrong usage is 2."""


def exit_code(error: errors.CoreInfraError) -> int:
    """Return the exit code for an error's kind."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
