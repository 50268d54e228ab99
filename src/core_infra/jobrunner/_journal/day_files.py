"""The files of a journal, one for each repository and day, and what pruning leaves of them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._journal.hash_chain import (
    DIGEST,
    DIGEST_FROM_END,
    chained_line,
    first_digest,
)
from core_infra.jobrunner._journal.paths import SUFFIX
from core_infra.medium._errors import InvalidPathError, PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.jobrunner._journal.log_file import JournalDirectory

_LOG = logging.getLogger(__name__)
STATES = ".states"
"""The end of the name of the file that pruning leaves of a day."""


def day(path: str) -> dt.date:
    """The UTC date of the entries of a file; the last possible date if its name has none."""
    try:
        return dt.date.fromisoformat(_stem(path.rpartition("/")[2]))
    except ValueError:
        return dt.date.max


def unpruned(path: str) -> str:
    """The path of the file that a file of states was made from."""
    return f"{path.removesuffix(STATES)}{SUFFIX}"


def pruned(path: str) -> str:
    """The path of the file of states that pruning makes from a file."""
    return f"{path.removesuffix(SUFFIX)}{STATES}"


def records(base: JournalDirectory) -> Iterator[str]:
    """The paths of all files, by repository and day; the states of a day before its file."""
    for owner in _directories(base, "."):
        for repo in _directories(base, owner):
            yield from _records(base, f"{owner}/{repo}")


def read(base: JournalDirectory, path: str, *, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Read the entries of one file; see :meth:`Journal.read`."""
    with base.open(path) as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n") or b"\0" in line:
                return  # torn, or being written at this moment
            start += len(line)
            with contextlib.suppress(InvalidError):
                yield Entry.decode(line), start


def bare(entry: Entry) -> Entry:
    """What pruning leaves of an entry: the state of its action."""
    return dataclasses.replace(entry, signals={}, signal=None, error="")


def digest_at(base: JournalDirectory, path: str, end: int) -> str:
    """The digest in the line that ends at an offset; arbitrary text if no line ends there."""
    with base.open(path) as file:
        file.seek(max(end - DIGEST_FROM_END, 0))
        return file.read(DIGEST).decode("ascii", "replace")


def prune(base: JournalDirectory, before: dt.date) -> list[str]:
    """Delete the files of days before a date; see :meth:`Journal.prune`."""
    gone = []
    for path in list(records(base)):
        if path.endswith(SUFFIX) and day(path) < before and not _unfinished(base, path):
            _keep_states(base, path)
            base.delete(path)
            gone.append(path)
    return gone


def _keep_states(base: JournalDirectory, path: str) -> None:
    # Line by line and day by day, so that a rebuilt index reads the same history. After a kill
    # before the file is deleted, both are read, one after the other: the same history twice.
    kept = pruned(path)
    lines, head = [], first_digest(kept)
    for one in (kept, path):
        with contextlib.suppress(PathNotFoundError):  # not pruned before
            for entry, _ in read(base, one):
                if entry.id:
                    line, head = chained_line(head, bare(entry).encode())
                    lines.append(line)
    if lines:
        base.write_bytes(kept, b"".join(lines), mode=0o600)


def _unfinished(base: JournalDirectory, path: str) -> bool:
    pending: set[str] = set()
    found = list(_records(base, path.rpartition("/")[0]))
    for where in found[found.index(path) :]:
        for entry, _ in read(base, where):
            if entry.phase is not Phase.INTENT:
                pending.discard(entry.id)
            elif where == path:
                pending.add(entry.id)
        if not pending:
            return False
    return True


def _records(base: JournalDirectory, directory: str) -> Iterator[str]:
    names = [name for name in base.list(directory) if name.endswith((SUFFIX, STATES))]
    for name in sorted(names, key=lambda name: (_stem(name), name.endswith(SUFFIX))):
        if _is(base.is_file, f"{directory}/{name}"):
            yield f"{directory}/{name}"


def _directories(base: JournalDirectory, path: str) -> Iterator[str]:
    for name in base.list(path):
        # Names with a dot at the top level are the journal's own files.
        where = name if path == "." else f"{path}/{name}"
        if not (path == "." and name.startswith(".")) and _is(base.is_dir, where):
            yield name


def _is(kind: Callable[[str], bool], path: str) -> bool:
    try:
        return kind(path)
    except InvalidPathError as error:  # a link that is not the journal's
        _LOG.warning("%s is skipped: %s", path, error.why)
        return False


def _stem(name: str) -> str:
    return name.removesuffix(SUFFIX).removesuffix(STATES)
