"""The index: the state of every action, looked up quickly; made from the journal.

The journal is the source of truth; this is a table of contents in SQLite. It may lag behind and
catches up when it is opened; if it is lost or damaged, it is rebuilt. It never runs ahead: what is
put into it is already in the journal, on the disk.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import logging
import operator
import os
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from core_infra.jobrunner._journal import day_files
from core_infra.jobrunner._journal.day_files import STATES, unpruned
from core_infra.jobrunner._journal.entry import Phase
from core_infra.jobrunner._journal.log_file import JournalDirectory
from core_infra.medium._errors import PathNotFoundError, StorageError
from core_infra.medium._real_file import map_os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from core_infra.jobrunner._journal.entry import Entry
    from core_infra.jobrunner._journal.journal import Journal
    from core_infra.jobrunner._journal.log_file import Span


_LOG = logging.getLogger(__name__)
_NAME = ".index.sqlite3"
_VERSION = 1
_SCHEMA = """
begin immediate;
create table actions (
    id text primary key, status int, action text, attempt int, first real, last real, signal text
) without rowid;
create index pending on actions (first) where status = 0;
create table files (path text primary key, size int, head text) without rowid;
pragma user_version = 1;
commit;
"""
_INTENT = """
insert into actions values (?, 0, ?, ?, ?, ?, ?) on conflict do update
set status = 0, attempt = excluded.attempt, signal = excluded.signal,
    first = min(first, excluded.first), last = excluded.last
"""
_SELECT = "select id, status, action, attempt, first, last, signal from actions"
_WITHDRAWN = "delete from actions where id = ?"
_END = "update actions set status = ?, last = ?, signal = null where id = ?"
_PRIMARY = 0xFF
"""The part of an error code of SQLite that is its kind."""
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PERMISSION = "Let this user write to it and to its directory, or name another journal."
_TODO = {
    sqlite3.SQLITE_READONLY: _PERMISSION,
    sqlite3.SQLITE_CANTOPEN: _PERMISSION,
    sqlite3.SQLITE_PERM: _PERMISSION,
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_IOERR: "See whether its disk is full or failing.",
    sqlite3.SQLITE_BUSY: "See which other process holds it.",
}


class ActionStatus(enum.IntEnum):
    """How far an action has come."""

    PENDING = 0
    """Started; no result is recorded."""
    DONE = 1
    FAILED = 2
    UNKNOWN = 3
    """Started, and it is unknown whether it was done."""
    INTERRUPTED = 4
    """Started, interrupted, and not done."""
    GIVEN_UP = 5
    """Failed, and another attempt would change nothing."""


_STATUSES = {int(status): status for status in ActionStatus}
"""A call of the enumeration takes several times as long."""


class ActionState(NamedTuple):
    """What the index knows of an action.

    Attributes:
        id: the id of the action.
        status: how far it has come.
        action: the name of the handler.
        attempt: how often it was tried.
        first: when it was first tried.
        last: when it was last recorded.
        signal: the signal; only while the action is pending.
    """

    id: str
    status: ActionStatus
    action: str
    attempt: int
    first: datetime
    last: datetime
    signal: Mapping[str, object] | None


class Index:
    """The state of every action of a journal, by its id.

    It is the file ``.index.sqlite3`` in the journal's directory.

    Args:
        journal: the journal.

    Raises:
        StorageError: it cannot be read or written: the disk is full or failing, or permission is
            missing. All methods raise this.
    """

    def __init__(self, journal: Journal) -> None:
        self._directory = JournalDirectory(journal.base_dir)
        self._path = Path(journal.base_dir, _NAME)
        self._lock = threading.RLock()
        with _sqlite_errors(self._path):
            try:
                self._db = self._open()
                self._catch_up()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                _LOG.warning("%s is damaged (%s) and is rebuilt", self._path, error)
                self._rebuild()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def catch_up(self) -> None:
        """Read what was appended to the journal since."""
        with _sqlite_errors(self._path):
            self._catch_up()

    def rebuild(self) -> None:
        """Make it again from the files of the journal."""
        with _sqlite_errors(self._path):
            self._rebuild()

    def _catch_up(self) -> None:
        with self._transaction() as db:
            known = {path: (size, head) for path, size, head in db.execute("select * from files")}
            extended = ""
            for path in list(day_files.records(self._directory)):
                if path.endswith(STATES) and {path, unpruned(path)} & known.keys():
                    continue  # already read; what came later must stay
                with contextlib.suppress(PathNotFoundError):  # pruned at this moment
                    size, head = known.get(path, (0, ""))
                    # What was read, and then lost with the power, may have been overwritten.
                    is_known = day_files.digest_at(self._directory, path, size) == head
                    # The later days of a repository count after what its earlier ones now have.
                    repo = path.rpartition("/")[0]
                    if self._read(db, path, size if is_known and repo != extended else 0):
                        extended = repo

    def _rebuild(self) -> None:
        with self._lock:
            with contextlib.suppress(AttributeError):  # it could not be opened
                self._db.close()
            for end in ("", "-wal", "-shm"):
                path = f"{self._path}{end}"
                with map_os_errors("delete", path, path):
                    Path(path).unlink(missing_ok=True)
            self._db = self._open()
            self._catch_up()

    def apply(self, entries: Iterable[Entry], spans: Mapping[str, Span]) -> None:
        """Add entries that were just written to the journal.

        Args:
            entries: the entries.
            spans: the result of :meth:`Journal.write` for them.
        """
        with _sqlite_errors(self._path), self._transaction() as db:
            _apply(db, entries)
            for path, span in spans.items():
                # Only if there is no gap: another process has written what is in a gap.
                if span.start == 0:
                    db.execute("insert or ignore into files values (?, 0, '')", (path,))
                db.execute(
                    "update files set size = ?, head = ? where path = ? and size = ?",
                    (span.end, span.head, path, span.start),
                )

    def states(self, ids: Iterable[str]) -> dict[str, ActionState]:
        """Look up actions; those that were never started are missing in the result."""
        wanted = json.dumps(list(ids))
        return {
            state.id: state
            for state in self._select("id in (select value from json_each(?))", wanted)
        }

    def pending(self) -> list[ActionState]:
        """The actions that were started and have no result, oldest first."""
        return self._select("status = 0 order by first")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        with contextlib.suppress(OSError):  # SQLite says better what is wrong
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            # In this mode a loss of power leaves an older state, which catches up, never a mixture.
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = normal")
            _prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:  # after some errors SQLite rolls back itself
                    self._db.execute("rollback")
                raise

    def _read(self, db: sqlite3.Connection, path: str, size: int) -> bool:
        """Apply the entries from an offset on; return whether there are some."""
        end = size
        entries = []
        for entry, end in day_files.read(self._directory, path, start=size):  # noqa: B007 - the last one counts
            entries.append(entry)
        _apply(db, entries)
        head = day_files.digest_at(self._directory, path, end)
        db.execute("insert or replace into files values (?, ?, ?)", (path, end, head))
        return bool(entries)

    def _select(self, condition: str, *arguments: object) -> list[ActionState]:
        with _sqlite_errors(self._path), self._lock:
            rows = self._db.execute(f"{_SELECT} where {condition}", arguments).fetchall()
        return [
            ActionState(
                id_,
                _STATUSES[status],
                action,
                attempt,
                datetime.fromtimestamp(first, UTC),
                datetime.fromtimestamp(last, UTC),
                None if signal is None else json.loads(signal),
            )
            for id_, status, action, attempt, first, last, signal in rows
        ]


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 0:
        db.executescript(_SCHEMA)
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"its version is {version}")


def _apply(db: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    rows = (_row(entry) for entry in entries if entry.id)
    for statement, group in itertools.groupby(rows, operator.itemgetter(0)):
        db.executemany(statement, [row for _, row in group])


def _row(entry: Entry) -> tuple[str, tuple[object, ...]]:
    """The statement for an entry, and its parameters."""
    ts = entry.ts.timestamp()
    if entry.phase is Phase.INTENT:
        return _INTENT, (entry.id, entry.action, entry.attempt, ts, ts, entry.signal_text())
    if entry.phase is Phase.FORGOTTEN or (entry.phase is Phase.WITHDRAWN and entry.attempt == 1):
        return _WITHDRAWN, (entry.id,)
    return _END, (_status(entry), ts, entry.id)


def _status(entry: Entry) -> ActionStatus:
    match entry.phase:
        case Phase.UNKNOWN:
            return ActionStatus.UNKNOWN
        case Phase.INTERRUPTED | Phase.WITHDRAWN | Phase.RETRY:  # the next attempt is at once
            return ActionStatus.INTERRUPTED
        case Phase.GIVEN_UP:
            return ActionStatus.GIVEN_UP
        case Phase.RESOLVED:
            return ActionStatus.DONE
        case _:
            return ActionStatus.DONE if entry.success else ActionStatus.FAILED


@contextlib.contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into a StorageError that says what to do.

    Args:
        path: the index.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & _PRIMARY
        raise StorageError(
            f"cannot use the index {str(path)!r}",
            why=str(error),
            todo=_TODO.get(code, "Start again: if it is damaged, it is rebuilt."),
            path=str(path),
        ) from error


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether a rebuild helps; it does not for a full disk or a missing permission."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & _PRIMARY in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ
