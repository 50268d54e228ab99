"""The paths of a journal's files, made from the names of repositories."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.medium._paths import RESERVED

if TYPE_CHECKING:
    from datetime import date

SUFFIX = ".jsonl"

_STRANGE = re.compile(rb"[^A-Za-z0-9._-]")
_LONG = 150
_KEPT = 80


@functools.lru_cache(maxsize=4096)
def log_path(owner: str, repo: str, day: date) -> str:
    """The path of the file for one repository and day, relative to the journal's directory.

    For any names, the path has exactly three parts and stays below the directory: bytes other than
    ASCII letters, digits and ``._-`` become ``%XX``, as does the dot of names with a meaning to the
    file system; long names end in a digest. Different names give different paths.

    Raises:
        InvalidError: a name is empty.
    """
    above = safe_name(owner, "owner", hidden=False)
    return f"{above}/{safe_name(repo, 'repository')}/{day:%Y-%m-%d}{SUFFIX}"


def safe_name(name: str, what: str, *, hidden: bool = True) -> str:
    """Turn any name into a usable name of a file or directory, different for each *name*.

    Args:
        name: any text.
        what: what it names, for the error.
        hidden: whether the result may begin with a dot.

    Raises:
        InvalidError: it is empty.
    """
    if not name:
        raise InvalidError(f"the name of the {what} is empty", todo=f"Name the {what}.")
    # Surrogates come from file names that are not UTF-8.
    raw = name.encode("utf-8", "surrogatepass")
    text = _STRANGE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    # ".github" is a common repository; names of owners never start with a dot, as our own files do.
    if text.startswith(".") and (not hidden or text in {".", ".."} or text.startswith(RESERVED)):
        text = "%2E" + text[1:]
    if len(text) > _LONG:
        # A "~" in a name is encoded, so that no other name ends like this.
        text = f"{text[:_KEPT]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return text
