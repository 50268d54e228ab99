"""Parts of sentences that several packages print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def similar(name: str, names: Collection[str]) -> str:
    """The end of a sentence that suggests the likely name; empty if no name is similar."""
    import difflib  # noqa: PLC0415 - needed only for mistakes

    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def count(number: int, noun: str, one: str = "", more: str = "s") -> str:
    """A number with its noun, as "1 machine"; "y" and "ies" make "1 entry", "2 entries"."""
    return f"{number} {noun}{one if number == 1 else more}"
