"""The time that everything in a release has: https://reproducible-builds.org/specs/source-date-epoch/."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from core_infra.build.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_EPOCH = 315532800
"""1980-01-01 00:00 UTC, the first time that every archive format can tell."""

VARIABLE = "SOURCE_DATE_EPOCH"
_LAST = 0o77777777777  # what the eleven octal digits of a tar header can tell


def source_date_epoch(env: Mapping[str, str] | None = None) -> int:
    """The seconds since 1970 that ``SOURCE_DATE_EPOCH`` says; without it, 1980-01-01.

    Raises:
        ArtifactError: it is not a number of seconds.
    """
    text = (os.environ if env is None else env).get(VARIABLE, "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdigit()) or int(text[:12]) > _LAST:
        raise ArtifactError(
            f"{VARIABLE} is {text!r}",
            why="it must be a number of seconds since 1970",
            todo="Try: export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)",
        )
    return int(text)
