"""Errors of services and messages.

Several things may fail in one call: the handlers of an action, the services of a shutdown. Their
errors are collected in a :class:`GroupError`, which is both a CoreInfraError with facts and an
ExceptionGroup: ``except*`` works, and tracebacks show a tree. Groups derive directly from the root
of the library's error tree, because their errors may be of several kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from core_infra.errors import CoreInfraError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence


class GroupError(CoreInfraError, ExceptionGroup[Exception]):
    """Several errors of one call, in the order in which they were raised.

    Args:
        what: what failed, and for which value.
        errors: the errors; at least one.
        facts: details for the caller; each becomes an attribute.

    Attributes:
        exceptions: the errors, as in every ExceptionGroup.
    """

    def __new__(cls, what: str, errors: Sequence[Exception], **_facts: Any) -> Self:
        """Create the group: ExceptionGroup takes its arguments here, not in ``__init__``."""
        return super().__new__(cls, what, errors)

    def __init__(self, what: str, errors: Sequence[Exception], **facts: Any) -> None:
        super().__init__(what, why="; ".join(map(_headline, errors)), **facts)

    def derive(self, errors: Sequence[Exception], /) -> Self:  # type: ignore[override]
        """Return the same error for some of the errors: for ``except*``, split and subgroup."""
        return type(self)(self.what, errors, **self.facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.exceptions, self.facts), self.__dict__


def _rebuild(
    kind: type[GroupError], what: str, errors: Sequence[Exception], facts: dict[str, Any]
) -> GroupError:
    return kind(what, errors, **facts)


def _headline(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


class ActionError(GroupError):
    """Handlers of an action raised; all other handlers ran.

    Attributes:
        action: the message.
    """


class StartupError(GroupError):
    """A service failed to start; the services before it have been shut down.

    Attributes:
        service: the name of the service.
        exceptions: first the error of its start, then the errors of shutting down the others.
    """


class ShutdownError(GroupError):
    """Services failed to shut down; all others were shut down."""


class UnhandledError(NotFoundError):
    """No handler handled a query or a task.

    Attributes:
        message: the query or task.
    """


def is_fatal(error: BaseException) -> bool:
    """Whether an error stops all work at once, instead of being kept until the rest is done.

    True for what is not an Exception (KeyboardInterrupt), and for RecursionError: two handlers that
    send the same action again would each retry at every depth, in effect without end.
    """
    return not isinstance(error, Exception) or isinstance(error, RecursionError)


def together(
    kind: type[GroupError], what: str, errors: Sequence[BaseException], **facts: Any
) -> BaseException:
    """Combine errors into the one to raise: a group, or the first fatal one.

    The other errors become the cause of a fatal one.
    """
    fatal = next(filter(is_fatal, errors), None)
    rest = [error for error in errors if error is not fatal and isinstance(error, Exception)]
    group = kind(what, rest, **facts) if rest else None
    if fatal is None:
        assert group is not None  # noqa: S101 - there is at least one error
        return group
    if group is not None:
        fatal.__cause__ = group
    return fatal
