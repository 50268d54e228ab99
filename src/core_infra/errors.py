"""Every error that core_infra raises, in one tree.

::

    CoreInfraError
    ├── NotFoundError        something does not exist
    ├── AlreadyExistsError   something to be created already exists
    ├── InvalidError         a value, a file or a message is malformed or not allowed
    │   └── InvalidFileError a file has mistakes: carries all of them
    ├── WrongStateError      the call is not possible in the current state
    ├── TimeoutExpiredError  something did not happen in time
    ├── CommandFailedError   a program ran and failed: carries its exit code and output
    └── UnavailableError     this host lacks something: a program, a device, a network

The errors of each package subclass one of these kinds, so ``except TimeoutExpiredError`` catches
every timeout of the library. Each error states what failed and for which value, why, and what to
do about it. Its facts are attributes, and it can be pickled (a pytest-xdist worker sends its errors
to the controller that way).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple


class CoreInfraError(Exception):
    """The base class of all errors of core_infra.

    Args:
        what: what failed, and for which value.
        why: the cause, as far as it is known.
        todo: what the reader can do about it.
        facts: details for the caller; each becomes an attribute.

    Attributes:
        what: as above.
        why: as above.
        todo: as above.
        facts: as above.
    """

    def __init__(self, what: str, *, why: str = "", todo: str = "", **facts: Any) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.facts = facts
        # Set here, because __getattr__ would not be called for all: an OSError has its own errno
        # and filename, which are None.
        for name, value in facts.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __str__(self) -> str:
        space = "" if self.why.startswith("\n") else " "  # a list begins on a line of its own
        head = f"{self.what}:{space}{self.why}" if self.why else self.what
        return f"{head}\n{self.todo}" if self.todo else head

    def __reduce__(self) -> tuple[Any, ...]:
        # The state restores notes, and what the __init__ of a subclass has set.
        arguments = (type(self), self.what, self.why, self.todo, self.facts)
        return _rebuild, arguments, self.__dict__


def _rebuild(
    kind: type[CoreInfraError], what: str, why: str, todo: str, facts: dict[str, Any]
) -> CoreInfraError:
    error = kind.__new__(kind)
    CoreInfraError.__init__(error, what, why=why, todo=todo, **facts)
    return error


class NotFoundError(CoreInfraError):
    """Something does not exist."""


class AlreadyExistsError(CoreInfraError):
    """Something to be created already exists."""


class InvalidError(CoreInfraError):
    """A value, a file or a message is malformed or not allowed."""


class Mistake(NamedTuple):
    """One mistake in a file. As text it is ``FILE:LINE: FIELD: MESSAGE``.

    Attributes:
        file: the path of the file.
        line: its line, from 1.
        field: the path of the field, as in ``targets[0].os``; empty for the file as a whole.
        message: what was expected, and what was found.
        column: its column, from 1.
        expected: the expected value; empty if the message has no such part.
    """

    file: str
    line: int
    field: str
    message: str
    column: int = 1
    expected: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return ": ".join(filter(None, (where, self.field, self.message)))


class InvalidFileError(InvalidError):
    """A file has mistakes; the message lists them in the order of the file.

    Attributes:
        path: the file; it may include other files with mistakes.
        mistakes: all mistakes, each a :class:`Mistake`.
        file: the file of the first mistake.
        line: its line, from 1.
        column: its column, from 1.
        field: its field; empty for the file as a whole.
        expected: the expected value.
    """


class WrongStateError(CoreInfraError):
    """The call is not possible in the current state.

    Attributes:
        needed: the state that the call needs.
        found: the state that the object was in.
    """


class TimeoutExpiredError(CoreInfraError):
    """Something did not happen in time.

    Attributes:
        timeout: the limit, in seconds.
    """


class CommandFailedError(CoreInfraError):
    """A program ran and failed.

    Attributes:
        command: the command as a list.
        exit_code: its exit code; the negative signal number if a signal ended it.
        stdout: its standard output, as bytes.
        stderr: its standard error, as bytes.
    """


class UnavailableError(CoreInfraError):
    """This host lacks something: a program, a device, a permission, a network."""
