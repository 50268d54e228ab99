"""What is said on the bus besides the messages themselves."""

from __future__ import annotations

import enum
import reprlib
from typing import Final, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Declined(enum.Enum):
    """The type of :data:`DECLINED`, to annotate handlers with: ``-> str | Declined``."""

    DECLINED = "declined"


DECLINED: Final = Declined.DECLINED
"""What a handler of queries or tasks returns for a message that is not its own.

Everything else is an answer, also None, 0 and an empty list.
"""


class Request(Generic[T_co]):
    """A base class for queries and tasks that tells type checkers the answer's type.

    No message needs it: any object may be one. With ``class Version(Request[str])``, mypy knows
    that ``core.query(Version())`` is a str.
    """


def shorten(message: object) -> str:
    """A message as an error can show it, whatever its size and even if its repr raises."""
    return _SHORT.repr(message)


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 200
