"""Suggestions for misspelt names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def similar(name: str, names: Collection[str]) -> str:
    """The end of a sentence that suggests the likely name; empty if no name is similar."""
    import difflib  # noqa: PLC0415 - needed only for mistakes

    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
