"""The files of a journal, one for each repository and day, and what pruning keeps of them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._journal.hash_chain import genesis, seal
from core_infra.jobrunner._journal.paths import SUFFIX
from core_infra.medium._errors import InvalidPathError, PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.jobrunner._journal.log_file import Place

_LOG = logging.getLogger(__name__)
STATES = ".states"
"""How the name ends of what pruning keeps of a day."""


def day(path: str) -> dt.date:
    """The UTC date whose entries a file has; the last of all dates if its name tells none."""
    try:
        return dt.date.fromisoformat(_stem(path.rpartition("/")[2]))
    except ValueError:
        return dt.date.max


def unpruned(path: str) -> str:
    """The file that a file with states was made from."""
    return f"{path.removesuffix(STATES)}{SUFFIX}"


def records(place: Place) -> Iterator[str]:
    """The paths of all files: by repository and day, what was kept of a day before its file."""
    for owner in _directories(place, "."):
        for repo in _directories(place, owner):
            yield from _records(place, f"{owner}/{repo}")


def read(place: Place, path: str, *, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Read the entries of one file; see :meth:`Journal.read`."""
    with place.open(path) as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n") or b"\0" in line:
                return  # torn, or being written at this moment
            start += len(line)
            with contextlib.suppress(InvalidError):
                yield Entry.decode(line), start


def prune(place: Place, before: dt.date) -> list[str]:
    """Delete the files of days before a date; see :meth:`Journal.prune`."""
    gone = []
    for path in list(records(place)):
        if path.endswith(SUFFIX) and day(path) < before and not _unfinished(place, path):
            _keep_states(place, path)
            place.delete(path)
            gone.append(path)
    return gone


def _keep_states(place: Place, path: str) -> None:
    # Line by line and day by day, so that an index that is made anew reads the same story. Killed
    # before the file is deleted, both are read, one after the other, and tell it twice.
    kept = f"{path.removesuffix(SUFFIX)}{STATES}"
    lines, head = [], genesis(kept)
    for one in (kept, path):
        with contextlib.suppress(PathNotFoundError):  # nothing was kept of it yet
            for entry, _ in read(place, one):
                if entry.id:
                    bare = dataclasses.replace(entry, signals={}, signal=None, error="")
                    line, head = seal(head, bare.encode())
                    lines.append(line)
    if lines:
        place.write_bytes(kept, b"".join(lines))


def _unfinished(place: Place, path: str) -> bool:
    pending: set[str] = set()
    found = list(_records(place, path.rpartition("/")[0]))
    for where in found[found.index(path) :]:
        for entry, _ in read(place, where):
            if entry.phase is not Phase.INTENT:
                pending.discard(entry.id)
            elif where == path:
                pending.add(entry.id)
        if not pending:
            return False
    return True


def _records(place: Place, directory: str) -> Iterator[str]:
    names = [name for name in place.list(directory) if name.endswith((SUFFIX, STATES))]
    for name in sorted(names, key=lambda name: (_stem(name), name.endswith(SUFFIX))):
        if _is(place.is_file, f"{directory}/{name}"):
            yield f"{directory}/{name}"


def _directories(place: Place, path: str) -> Iterator[str]:
    for name in place.list(path):
        # What begins with a dot on the first floor is the journal's own.
        where = name if path == "." else f"{path}/{name}"
        if not (path == "." and name.startswith(".")) and _is(place.is_dir, where):
            yield name


def _is(kind: Callable[[str], bool], path: str) -> bool:
    try:
        return kind(path)
    except InvalidPathError as error:  # somebody's link: the journal has no part in it
        _LOG.warning("%s is passed over: %s", path, error.why)
        return False


def _stem(name: str) -> str:
    return name.removesuffix(SUFFIX).removesuffix(STATES)
