"""One file of a journal: whole lines at its end, durable, whoever else writes to it."""

# The order of the system calls is the point.

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._journal.hash_chain import follow, genesis, seal
from core_infra.medium._replacement import sync_dir
from core_infra.medium._sandbox import SandboxMedium

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOG = logging.getLogger(__name__)


class Span(NamedTuple):
    """What was added to a file.

    Attributes:
        start: where it begins, in bytes.
        end: where it ends.
        head: the digest of its last line.
    """

    start: int
    end: int
    head: str


class Place(SandboxMedium):
    """The directory of a journal: nothing that is opened by it is outside."""

    def open_log(self, path: str) -> int:
        """Open a file to be read and appended to; made, with its directories, if it is missing.

        Returns:
            A descriptor. The file's name is on the disk.
        """
        where = self._where(path)
        with self._mapping_errors("append to", path, where):
            directory, name = self._entry(where, make=True)
            try:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, 0o666, dir_fd=directory)
                # Also when it was there: who made it may have been killed before this.
                sync_dir(directory)
            finally:
                os.close(directory)
            return fd


class Log:
    """A file that is open to be appended to.

    Args:
        place: the journal's directory.
        path: the file in it.
    """

    def __init__(self, place: Place, path: str) -> None:
        self._place = place
        self._path = path
        self._fd = place.open_log(path)
        self._head = genesis(path)
        self._lines = 0
        self._end = 0
        """Where the last whole line ends that this process has followed the chain to."""

    def append(self, bodies: Iterable[bytes]) -> Span | None:
        """Write records, chained to what is there, and bring them to the disk.

        All or none of them: if it fails, the file is as before, as far as the system still allows.

        Returns:
            What was added; None if the file was deleted meanwhile.

        Raises:
            OSError: the disk is full or failing.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            info = os.fstat(self._fd)
            if not info.st_nlink:
                return None
            if info.st_size < self._end:
                _LOG.error("%s: somebody cut off its end", self._path)
                self._head, self._lines, self._end = genesis(self._path), 0, 0
            if info.st_size != self._end:
                self._catch_up(info.st_size)
            start, head = self._end, self._head
            lines = []
            for body in bodies:
                line, head = seal(head, body)
                lines.append(line)
            self._write(b"".join(lines), start)
            self._head, self._lines = head, self._lines + len(lines)
            return Span(start, self._end, head.decode("ascii"))
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, data: bytes, start: int) -> None:
        try:
            left = data
            while left:
                left = left[os.write(self._fd, left) :]
            os.fdatasync(self._fd)
        except BaseException:
            # Once fdatasync has failed, nobody knows what of this is on the disk, and asking again
            # would not tell: the kernel forgets the failure. So it must not stay.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, start)
            raise
        self._end = start + len(data)

    def _catch_up(self, size: int) -> None:
        """Follow what others wrote since; take away what an interrupted write has left."""
        data = os.pread(self._fd, size - self._end, self._end)
        if len(data) != size - self._end:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        seen = follow(data, self._head, lines=self._lines, offset=self._end)
        for found in seen.breaks:
            if not found.torn:
                _LOG.error("%s: line %d was changed, or lines before it", self._path, found.line)
        if seen.end < size:
            self._set_aside(data[seen.end - self._end :], seen.end)
        self._head, self._lines, self._end = seen.head, seen.lines, seen.end

    def _set_aside(self, torn: bytes, offset: int) -> None:
        # Named by what it is: doing it twice, because of a crash in between, makes one file.
        aside = f"{self._path}.torn-{offset}-{hashlib.sha256(torn).hexdigest()[:8]}"
        self._place.write_bytes(aside, torn)
        os.ftruncate(self._fd, offset)
        os.fsync(self._fd)
        _LOG.warning(
            "%s: a write was interrupted; its %d bytes are in %s", self._path, len(torn), aside
        )
