"""Mistakes in files, and the error that carries all of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Self

_MAX_SHOWN = 50
"""Mistakes of one file that its error shows."""


class Mistake(NamedTuple):
    """One mistake in a file. As text it is ``FILE:LINE: FIELD: MESSAGE``.

    Attributes:
        file: the path of the file.
        line: its line, from 1.
        field: the path of the field, as in ``targets[0].os``; empty for the file as a whole.
        message: what was expected, and what was found.
        column: its column, from 1.
        expected: what should be there; empty if the message cannot be divided.
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
        path: the file. Mistakes may be in files that it includes, too.
        mistakes: all of them, each a :class:`Mistake`.
        file, line, column, field, expected: those of the first mistake.
    """

    @classmethod
    def of(cls, path: str, mistakes: Sequence[Mistake]) -> Self:
        """The error for a file's mistakes, of which there must be at least one."""
        lines = [str(mistake) for mistake in mistakes[:_MAX_SHOWN]]
        if len(mistakes) > _MAX_SHOWN:
            lines.append(f"… and {len(mistakes) - _MAX_SHOWN} more")
        why = "\n  ".join([f"{len(mistakes)} mistakes", *lines]) if len(mistakes) > 1 else lines[0]
        first = mistakes[0]._asdict()
        del first["message"]
        facts = {"path": path, "mistakes": tuple(mistakes), **first}
        return cls(f"cannot use {path}", why=why, **facts)


def in_order(mistakes: Collection[Mistake]) -> list[Mistake]:
    """Mistakes without repetitions, by line, the files in the order of their first mistakes."""
    files = list(dict.fromkeys(one.file for one in mistakes))
    place = {file: number for number, file in enumerate(files)}
    return sorted(dict.fromkeys(mistakes), key=lambda one: (place[one.file], one.line, one.column))
