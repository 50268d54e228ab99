"""Each C file uses only what the header declares above the file's own part: there is no cycle."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
PART = re.compile(r"^/\* (\w+\.c)\b", re.MULTILINE)
DECLARED = re.compile(r"^\w[\w *]*\b(\w+)\(|^extern [\w *]+\b(\w+);", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def declared(header: str) -> dict[str, set[str]]:
    """The functions and variables that the header declares for each file, lowest first."""
    starts = [*((match[1], match.end()) for match in PART.finditer(header)), ("", len(header))]
    return {
        name: {match[1] or match[2] for match in DECLARED.finditer(header, start, end)}
        for (name, start), (_, end) in pairwise(starts)
    }


@pytest.mark.parametrize("program", ["agent", "forkserver", "reaper", "switch"])
def test_a_file_uses_only_what_is_below_it(program: str) -> None:
    directory = CSRC / program
    parts = declared((directory / f"{program}.h").read_text())
    assert all(parts.values())
    above = set().union(*parts.values())
    for file, own in parts.items():
        above -= own
        used = set(re.findall(r"\w+", COMMENT.sub("", (directory / file).read_text())))
        assert not used & above, f"{file} uses what is above it"
