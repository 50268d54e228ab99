"""Every error that core_infra raises, in one tree.

::

    CoreInfraError
    ├── NotFoundError        what was named does not exist
    ├── AlreadyExistsError   what was to be made is there already
    ├── InvalidError         a value, a file or a message is not of the form it must have
    ├── WrongStateError      the call is right, but not now: names the state it needed and found
    ├── TimeoutExpiredError  something did not happen in time
    ├── CommandFailedError   a program ran and failed: carries its exit code and output
    └── UnavailableError     something that this host lacks: a program, a device, a network

A package's own errors subclass one of these kinds, so that ``except TimeoutExpiredError``
catches every timeout of the library. Each error says what failed and with which value, why, and
what to do about it; its facts are fields, and it survives pickling (a pytest-xdist worker sends
its errors to the controller that way).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class CoreInfraError(Exception):
    """The root of the tree.

    Args:
        what: what failed, with the value it failed for.
        why: the cause, as far as it is known.
        todo: what the reader can do about it.
        facts: anything a caller may want to read back; each becomes an attribute.
    """

    def __init__(self, what: str, *, why: str = "", todo: str = "", **facts: Any) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.facts = facts
        # Set, not looked up when asked for: an OSError has errno and filename of its own, which
        # would answer None.
        for name, value in facts.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __str__(self) -> str:
        head = f"{self.what}: {self.why}" if self.why else self.what
        return f"{head}\n{self.todo}" if self.todo else head

    def __reduce__(self) -> tuple[Any, ...]:
        # The state brings back notes, and what a subclass's own __init__ has set.
        arguments = (type(self), self.what, self.why, self.todo, self.facts)
        return _rebuild, arguments, self.__dict__


def _rebuild(
    kind: type[CoreInfraError], what: str, why: str, todo: str, facts: dict[str, Any]
) -> CoreInfraError:
    error = kind.__new__(kind)
    CoreInfraError.__init__(error, what, why=why, todo=todo, **facts)
    return error


class NotFoundError(CoreInfraError):
    """What was named does not exist."""


class AlreadyExistsError(CoreInfraError):
    """What was to be made is there already."""


class InvalidError(CoreInfraError):
    """A value, a file or a message is not of the form that it must have."""


class WrongStateError(CoreInfraError):
    """The call is right, but not in this state.

    Attributes:
        needed: the state that the call needs.
        found: the state that the object was in.
    """


class TimeoutExpiredError(CoreInfraError):
    """Something did not happen in time.

    Attributes:
        timeout: the seconds that were allowed.
    """


class CommandFailedError(CoreInfraError):
    """A program ran and failed.

    Attributes:
        command: the command as a list.
        exit_code: its exit code; minus the signal's number if a signal ended it.
        stdout: what it wrote to standard output, bytes.
        stderr: what it wrote to standard error, bytes.
    """


class UnavailableError(CoreInfraError):
    """Something that this host lacks: a program, a device, a permission, a network."""
