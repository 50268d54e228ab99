"""Where in a journal the records of a repository are."""

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

    Whatever the names are, the path has exactly three parts and stays beneath the directory: what
    is not a letter of ASCII, a digit or one of ``._-`` becomes ``%XX``, names that mean something
    to the file system lose their dot the same way, and long ones end in a digest. Different names
    give different paths.

    Raises:
        InvalidError: a name is empty.
    """
    above = safe_name(owner, "owner", hidden=False)
    return f"{above}/{safe_name(repo, 'repository')}/{day:%Y-%m-%d}{SUFFIX}"


def safe_name(name: str, what: str, *, hidden: bool = True) -> str:
    """One name that a file or directory can have, different for each *name*.

    Args:
        name: anything.
        what: what it names, for the error.
        hidden: whether it may begin with a dot.

    Raises:
        InvalidError: it is empty.
    """
    if not name:
        raise InvalidError(f"the name of the {what} is empty", todo=f"Name the {what}.")
    # Surrogates come from file names that are not UTF-8; they too must have a place.
    raw = name.encode("utf-8", "surrogatepass")
    text = _STRANGE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    # ".github" is a common repository; the journal's own files are beside the owners.
    if text.startswith(".") and (not hidden or text in {".", ".."} or text.startswith(RESERVED)):
        text = "%2E" + text[1:]
    if len(text) > _LONG:
        # A "~" in a name is encoded, so that no other name ends like this.
        text = f"{text[:_KEPT]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return text
