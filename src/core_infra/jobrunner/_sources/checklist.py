"""The checklist of an epic, and references to issues in the texts of pull requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bounded and without backtracking: the texts cannot be trusted.
_BOX = re.compile(r"^[ \t]{0,20}[-*+] \[([ xX])\] +#(\d{1,10})\b")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_REFERENCE = re.compile(r"(?<![\w/&#])#(\d{1,10})\b")
_CLOSING = re.compile(
    r"\b(?:close|closes|closed|fix|fixes|fixed|resolve|resolves|resolved):? +#(\d{1,10})\b",
    re.IGNORECASE,
)


class Box(NamedTuple):
    """One line of a checklist: ``- [ ] #42 what it is about``.

    Attributes:
        line: its number in the text, from 0.
        child: the issue that it names.
        ticked: whether it is ticked.
    """

    line: int
    child: int
    ticked: bool


def boxes(body: str) -> Iterator[Box]:
    """The boxes of a text; fenced blocks are skipped."""
    fence = ""
    for number, line in enumerate(body.split("\n")):
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif fence == found[1]:
                fence = ""
        elif not fence and (found := _BOX.match(line)):
            yield Box(number, int(found[2]), found[1] != " ")


def tick(body: str, child: int) -> str:
    """The text with the box of a child ticked; nothing else changes, not even line ends."""
    lines = body.split("\n")
    for box in boxes(body):
        if box.child == child and not box.ticked:
            lines[box.line] = lines[box.line].replace("[ ]", "[x]", 1)
    return "\n".join(lines)


def references(body: str) -> tuple[set[int], set[int]]:
    """The issues of the same repository that the text of a pull request names.

    Returns:
        All of them, and those that it closes.
    """
    closing = {int(number) for number in _CLOSING.findall(body)}
    return {int(number) for number in _REFERENCE.findall(body)} | closing, closing
