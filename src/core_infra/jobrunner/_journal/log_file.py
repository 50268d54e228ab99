"""One file of a journal: appends whole, durable lines, also if other processes append to it.

The order of the system calls matters.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._journal.hash_chain import chained_line, check_chain, first_digest
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


class JournalDirectory(SandboxMedium):
    """The directory of a journal; never opens a file outside of it."""

    def open_log(self, path: str) -> int:
        """Open a file for reading and appending; create it and its directories if missing.

        Returns:
            A file descriptor. The file's name is on the disk.
        """
        where = self._where(path)
        with self._mapping_errors("append to", path, where):
            directory, name = self._entry_to_make(where)
            try:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, 0o600, dir_fd=directory)
                # Also if it existed: the process that created it may have been killed before this.
                sync_dir(directory)
            finally:
                os.close(directory)
            return fd


class LogFile:
    """A file that is open for appending.

    Args:
        directory: the journal's directory.
        path: the file in it.
    """

    def __init__(self, directory: JournalDirectory, path: str) -> None:
        self._directory = directory
        self._path = path
        self._fd = directory.open_log(path)
        self._head = first_digest(path)
        self._lines = 0
        self._end = 0
        """The end of the last line that this process has checked."""

    def append(self, bodies: Iterable[bytes]) -> Span | None:
        """Append records, chained to the lines that are there, and bring them to the disk.

        All or none of them: if it fails, the file is as before, if the system still allows it.

        Returns:
            What was added; None if the file was deleted in the meantime.

        Raises:
            OSError: the disk is full or failing.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            info = os.fstat(self._fd)
            if not info.st_nlink:
                return None
            if info.st_size < self._end:
                _LOG.error("%s: its end was cut off", self._path)
                self._head, self._lines, self._end = first_digest(self._path), 0, 0
            if info.st_size != self._end:
                self._catch_up(info.st_size)
            start, head = self._end, self._head
            lines = []
            for body in bodies:
                line, head = chained_line(head, body)
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
            # After a failed fdatasync, it is unknown what is on the disk, and a second one would
            # not report the failure again. So the data must not stay in the file.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, start)
            raise
        self._end = start + len(data)

    def _catch_up(self, size: int) -> None:
        """Check what other processes appended; remove what an interrupted write has left."""
        data = os.pread(self._fd, size - self._end, self._end)
        if len(data) != size - self._end:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        seen = check_chain(data, self._head, lines=self._lines, offset=self._end)
        for found in seen.breaks:
            if not found.torn:
                _LOG.error("%s: line %d was changed, or lines before it", self._path, found.line)
        if seen.end < size:
            self._set_aside(data[seen.end - self._end :], seen.end)
        self._head, self._lines, self._end = seen.head, seen.lines, seen.end

    def _set_aside(self, torn: bytes, offset: int) -> None:
        # Named by its content: repeated after a crash in between, it makes only one file.
        aside = f"{self._path}.torn-{offset}-{hashlib.sha256(torn).hexdigest()[:8]}"
        self._directory.write_bytes(aside, torn)
        os.ftruncate(self._fd, offset)
        os.fsync(self._fd)
        _LOG.warning(
            "%s: a write was interrupted; its %d bytes are in %s", self._path, len(torn), aside
        )
