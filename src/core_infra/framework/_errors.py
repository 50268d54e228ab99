"""What goes wrong with services and messages.

Several things may fail in one call: handlers of one action, services of one shutdown. Their errors
come together in a :class:`GroupError`, which is both of Python's worlds: a CoreInfraError with
facts, and an ExceptionGroup that ``except*`` looks into and that tracebacks show as a tree. Groups
sit directly under the root of the library's tree: what they hold may be of several kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from core_infra.errors import CoreInfraError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence


class GroupError(CoreInfraError, ExceptionGroup[Exception]):
    """Several errors of one call, in the order in which they were raised.

    Args:
        what: what failed, with the value it failed for.
        errors: the errors; at least one.
        facts: anything a caller may want to read back; each becomes an attribute.

    Attributes:
        exceptions: the errors, as in every ExceptionGroup.
    """

    def __new__(cls, what: str, errors: Sequence[Exception], **_facts: Any) -> Self:
        """Give the group what it is made with: it takes that here, not in ``__init__``."""
        return super().__new__(cls, what, errors)

    def __init__(self, what: str, errors: Sequence[Exception], **facts: Any) -> None:
        super().__init__(what, why="; ".join(map(_headline, errors)), **facts)

    def derive(self, errors: Sequence[Exception], /) -> Self:  # type: ignore[override]
        """Make the same error about some of the errors: for ``except*``, split and subgroup."""
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
    """A service could not be started; those that were running have been shut down again.

    Attributes:
        service: the name of the service.
        exceptions: first what its start raised, then what went wrong in shutting down the others.
    """


class ShutdownError(GroupError):
    """Services could not be shut down; all others were."""


class UnhandledError(NotFoundError):
    """No handler took a query or a task.

    Attributes:
        message: the query or task.
    """


def is_fatal(error: BaseException) -> bool:
    """Tell whether an error ends all work at once instead of being kept until the rest is done.

    So do KeyboardInterrupt and its like. So does RecursionError: two handlers that send the
    action again would, at every depth, each try once more, and never come to an end.
    """
    return not isinstance(error, Exception) or isinstance(error, RecursionError)


def together(
    kind: type[GroupError], what: str, errors: Sequence[BaseException], **facts: Any
) -> BaseException:
    """Make one error of several, to be raised: a group, or the first fatal one.

    A fatal error has what was raised besides it as its cause.
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
