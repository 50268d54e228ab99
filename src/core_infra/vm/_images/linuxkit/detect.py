"""Distinguishes a LinuxKit file from a description of an image, which has the same extension."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

_SUFFIXES = (".yml", ".yaml")
# A section that only LinuxKit's files have, or a kernel that is not a single file.
_SECTION = re.compile(
    rb"""^['"]?(?:(?:init|onboot|onshutdown|services|volumes|files|trust)['"]?\s*:"""
    rb"""|kernel['"]?\s*:\s*(?:\#.*)?(?:\{|\n\s+(?:image|cmdline|binary|tar|ucode)\s*:))""",
    re.MULTILINE,
)
_LOOK = 1 << 20


def is_linuxkit(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of LinuxKit, by its name and its sections."""
    file = Path(path)
    if file.suffix not in _SUFFIXES:
        return False
    with suppress(OSError), file.open("rb") as stream:
        return _SECTION.search(stream.read(_LOOK)) is not None
    return False
