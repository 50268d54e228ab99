"""Collects the mistakes of a file in one error."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from core_infra.errors import InvalidFileError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from core_infra.errors import Mistake

_MAX_SHOWN = 50
"""Mistakes of one file that its error shows."""

E = TypeVar("E", bound=InvalidFileError)


def file_error(kind: type[E], path: str, mistakes: Sequence[Mistake]) -> E:
    """Create the error for the mistakes of a file, of which there must be at least one."""
    lines = [str(mistake) for mistake in mistakes[:_MAX_SHOWN]]
    if len(mistakes) > _MAX_SHOWN:
        lines.append(f"… and {len(mistakes) - _MAX_SHOWN} more")
    why = "\n  ".join([f"{len(mistakes)} mistakes", *lines]) if len(mistakes) > 1 else lines[0]
    first = mistakes[0]._asdict()
    del first["message"]
    facts = {"path": path, "mistakes": tuple(mistakes), **first}
    return kind(f"cannot use {path}", why=why, **facts)


def in_order(mistakes: Collection[Mistake]) -> list[Mistake]:
    """Mistakes without repetitions, by line, the files in the order of their first mistakes."""
    files = list(dict.fromkeys(one.file for one in mistakes))
    place = {file: number for number, file in enumerate(files)}
    return sorted(dict.fromkeys(mistakes), key=lambda one: (place[one.file], one.line, one.column))
