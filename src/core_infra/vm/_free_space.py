"""The free space of this host's file systems, and the errors if there is none."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, os
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

LITTLE = 1 << 20
"""Bytes: a file system with less than these is full."""

MAKE_ROOM = (
    "Make room there, or choose another place: with CORE_INFRA_CACHE_DIR for what is kept, with "
    "TMPDIR for machines that run."
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_APT_FULL = "You don't have enough free space in"


class HostFullError(UnavailableError):
    """This host has no room for what was to be written."""


def free(path: Path) -> int:
    """Bytes that can still be written where *path* is; 0 if that is unknown."""
    with contextlib.suppress(OSError):
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
    return 0


def is_full(path: Path) -> bool:
    """Whether the file system of *path* is full."""
    return free(path) < LITTLE


def says_full(text: str) -> bool:
    """Whether a program's message, in the C locale, says that there is no room."""
    return any(words in text for words in (*map(os.strerror, _FULL), _APT_FULL))


def is_no_room(error: OSError) -> bool:
    """Whether something could not be written because there is no room."""
    return error.errno in _FULL


def described(path: Path) -> str:
    """The file system of *path*: where it is, of what type, how much of it is free."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    place = _mount_point(path)
    kind = _type(place)
    size, left = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    text = f"{place}{f' ({kind})' if kind else ''} has {_mib(left)} free of {_mib(size)}"
    return f"{text}, and no inode" if status.f_files and not status.f_favail else text


def no_room(what: str, directory: Path, error: OSError | None = None) -> UnavailableError:
    """The error that says why *what* cannot be written to *directory*, and what to do.

    Args:
        what: what was to be written.
        directory: where.
        error: why it failed; None: there is no room.
    """
    number = errno.ENOSPC if error is None else error.errno
    why = os.strerror(errno.ENOSPC) if error is None else error.strerror or str(error)
    kind = HostFullError if number in _FULL else UnavailableError
    if number in _FULL:
        why = f"{why}: {described(_existing(directory))}"
    return kind(f"cannot write {what} to {directory}", why=why, todo=MAKE_ROOM)


@contextlib.contextmanager
def written(what: str, directory: Path) -> Iterator[None]:
    """For a block that writes files to *directory*: an OSError becomes an UnavailableError."""
    try:
        yield
    except OSError as error:
        raise no_room(what, directory, error) from error


def _existing(path: Path) -> Path:
    return next((place for place in (path, *path.parents) if place.exists()), path)


def _mount_point(path: Path) -> Path:
    place = path.resolve()
    while not place.is_mount() and place != place.parent:
        place = place.parent
    return place


def _type(place: Path) -> str:
    """The type of the file system that is mounted there, the last one if there are several."""
    found = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[4] == str(place).replace(" ", "\\040"):
                found = rest.split()[0]
    return found


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size < 10 << 30 else f"{size >> 30} GiB"
