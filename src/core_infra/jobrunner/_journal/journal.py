"""The journal: an append-only, durable record of intents and results."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Self

from core_infra.errors import InvalidError
from core_infra.jobrunner._journal import day_files
from core_infra.jobrunner._journal.entry import Entry
from core_infra.jobrunner._journal.group_commit import GroupCommit
from core_infra.jobrunner._journal.hash_chain import (
    check_chain,
    first_digest,
)
from core_infra.jobrunner._journal.log_file import JournalDirectory, LogFile, Span
from core_infra.jobrunner._journal.paths import SUFFIX
from core_infra.medium._errors import path_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.jobrunner._journal.hash_chain import ChainBreak
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal

    Item = tuple[str, bytes]
    Spans = dict[str, Span | int]

_OPEN_FILES = 64


class FileCheck(NamedTuple):
    """What :meth:`Journal.verify` found in one file.

    Attributes:
        path: the file, relative to the journal's directory.
        entries: the number of whole lines.
        head: the digest of the last line. With a copy of it elsewhere, you can prove later that no
            line up to this one was changed.
        breaks: the lines at which the chain does not hold.
    """

    path: str
    entries: int
    head: str
    breaks: Sequence[ChainBreak]

    @property
    def tampered(self) -> bool:
        """Whether it was changed; an interrupted write does not count."""
        return any(not found.torn for found in self.breaks)


class Journal:
    """A directory of files ``owner/repo/YYYY-MM-DD.jsonl``, by UTC date: one JSON object per line.

    When an append returns, its entries are on the disk. Threads that append at the same time share
    one write; several processes may append to one journal. The next append to a file removes a line
    that a crash has torn, and keeps it in a file beside it (``….jsonl.torn-…``). The lines of a
    file are chained by digests: each line has the SHA-256 of the line before it and of itself.

    The directory must be on a file system with locks (flock): any local one. It cannot be on a
    Medium, because processes share it by those locks and by fdatasync.

    Args:
        base_dir: the directory; created if missing.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self.base_dir = os.fspath(base_dir)
        self._directory = JournalDirectory(base_dir)
        self._begin()
        _ALL.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, signal: PipelineSignal, result: ActionResult) -> None:
        """Record the result of an action; it is on the disk when this returns.

        Raises:
            InvalidError: the owner or the repository is empty, or the time has no time zone.
            StorageError: the disk is full or failing.
        """
        self.write([Entry.of_result(signal, result)])

    def write(self, entries: Iterable[Entry]) -> dict[str, Span]:
        """Record several entries with one write for each of their files.

        Returns:
            For each file, what was added to it; it may include entries of other threads.

        Raises:
            InvalidError: as :meth:`append` does; nothing is written then.
            StorageError: the disk is full or failing: entries of the file in the error are not
                recorded, others may be.
        """
        items = [(entry.path(), entry.encode()) for entry in entries]
        spans = self._commits.write(items)
        mine: dict[str, Span] = {}
        for path in dict.fromkeys(path for path, _ in items):
            span = spans[path]
            if isinstance(span, int):
                raise path_error(span, "append to", path, filename=f"{self.base_dir}/{path}")
            mine[path] = span
        return mine

    def write_bodies(self, items: Sequence[Item]) -> None:
        """Record lines as another journal has them: the path of the file, and the line's record.

        Raises:
            StorageError: the disk is full or failing.
        """
        for path, span in self._commits.write(items).items():
            if isinstance(span, int):
                raise path_error(span, "append to", path, filename=f"{self.base_dir}/{path}")

    def pull(self) -> bool:
        """Fetch what other hosts have written, and return whether there was something: no hosts."""
        return False

    def files(self) -> list[str]:
        """The paths of the files, relative to the directory, by repository and day."""
        return [path for path in day_files.records(self._directory) if path.endswith(SUFFIX)]

    def read(self, path: str, *, start: int = 0) -> Iterator[tuple[Entry, int]]:
        """Read the entries of one file; lines that are not entries are skipped.

        Args:
            path: one of :meth:`files`.
            start: where to start, in bytes.

        Yields:
            Each entry, and where it ends, in bytes.
        """
        return day_files.read(self._directory, path, start=start)

    def entries(self, *, since: dt.date = dt.date.min) -> Iterator[Entry]:
        """Read all entries, file by file.

        Args:
            since: skip the files of days before this one.
        """
        for path in self.files():
            if day_files.day(path) >= since:
                for entry, _ in self.read(path):
                    yield entry

    def verify(self) -> list[FileCheck]:
        """Check every file's chain."""
        return [self._check(path) for path in day_files.records(self._directory)]

    def prune(self, before: dt.date) -> list[str]:
        """Delete the files of days before a date; the states of actions stay known.

        A file is kept if it has an intent without an end. Torn lines that were set aside are kept,
        too, for a person to look at. What an :class:`Index` needs stays in
        ``YYYY-MM-DD.states``, so that no action is repeated because its file was deleted.

        Returns:
            The paths of the deleted files.

        Raises:
            InvalidError: the date is in the future: today's files may be in use.
        """
        if before > dt.datetime.now(dt.UTC).date():
            raise InvalidError(
                f"cannot delete what is before {before}",
                why="that is in the future",
                todo="Give today's date (UTC) or an earlier one.",
            )
        return day_files.prune(self._directory, before)

    def close(self) -> None:
        """Close its files; it can still be used."""
        with self._files_lock:
            while self._logs:
                self._logs.popitem()[1].close()

    def _begin(self) -> None:
        self._logs: OrderedDict[str, LogFile] = OrderedDict()
        self._files_lock = threading.Lock()
        self._commits: GroupCommit[Item, Spans] = GroupCommit(self._commit)

    def _after_fork(self) -> None:
        # The child shares the parent's locks on open files: they would not exclude each other.
        logs = self._logs
        self._begin()
        for log in logs.values():
            log.close()

    def _commit(self, items: Sequence[Item]) -> Spans:
        by_path: dict[str, list[bytes]] = {}
        for path, body in items:
            by_path.setdefault(path, []).append(body)
        spans: Spans = {}
        with self._files_lock:
            for path, bodies in by_path.items():
                try:
                    spans[path] = self._append(path, bodies)
                except OSError as error:
                    self._drop(path)  # what it knows about the file may be wrong now
                    spans[path] = error.errno or 0
        return spans

    def _append(self, path: str, bodies: list[bytes]) -> Span:
        while True:
            log = self._logs.get(path)
            if log is None:
                log = self._logs[path] = LogFile(self._directory, path)
                while len(self._logs) > _OPEN_FILES:
                    self._logs.popitem(last=False)[1].close()
            self._logs.move_to_end(path)
            span = log.append(bodies)
            if span is not None:
                return span
            self._drop(path)

    def _drop(self, path: str) -> None:
        if log := self._logs.pop(path, None):
            log.close()

    def _check(self, path: str) -> FileCheck:
        with self._directory.open(path) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)  # no write is under way
            data = file.read()
        seen = check_chain(data, first_digest(path))
        return FileCheck(path, seen.lines, seen.head.decode("ascii", "replace"), seen.breaks)


_ALL: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in list(_ALL):
        journal._after_fork()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_after_fork)
