"""Names that are not there, and what may have been meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def similar(name: str, names: Collection[str]) -> str:
    """What may have been meant by a name; empty if nothing is like it."""
    close = difflib.get_close_matches(name, names, 1)
    return f"; is {close[0]!r} meant?" if close else ""
