"""Which actions were begun, done and left: looked up quickly, made from the journal.

The journal is the truth; this is a table of contents in SQLite. It may lag behind and catches up
when it is opened; lost or damaged, it is made anew. It never runs ahead: what is put into it is on
the disk already.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import logging
import operator
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from core_infra.jobrunner._journal.day_files import STATES, unpruned
from core_infra.jobrunner._journal.entry import Phase
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
set status = 0, attempt = excluded.attempt, last = excluded.last, signal = excluded.signal
"""
_SELECT = "select id, status, action, attempt, first, last, signal from actions"
_WITHDRAWN = "delete from actions where id = ?"
_END = "update actions set status = ?, last = ?, signal = null where id = ?"


class Index:
    """The state of every action of a journal, by its id.

    It stays in the journal's directory, as ``.index.sqlite3``.

    Args:
        journal: what it is made from.

    Raises:
        StorageError: it cannot be read or written: the disk is full or failing, or it may not be
            written to. Everything that it is asked raises this.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._path = Path(journal.base_dir, _NAME)
        self._lock = threading.RLock()
        with telling(self._path):
            try:
                self._db = self._open()
                self._catch_up()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                _LOG.warning("%s is damaged (%s) and is made anew", self._path, error)
                self._rebuild()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def catch_up(self) -> None:
        """Read what was appended to the journal since."""
        with telling(self._path):
            self._catch_up()

    def rebuild(self) -> None:
        """Make it anew from the files that the journal has."""
        with telling(self._path):
            self._rebuild()

    def _catch_up(self) -> None:
        with self._transaction() as db:
            known = {path: (size, head) for path, size, head in db.execute("select * from files")}
            for path in self._journal.records():
                if path.endswith(STATES) and {path, unpruned(path)} & known.keys():
                    continue  # it is known already, and what came later must stay
                with contextlib.suppress(PathNotFoundError):  # pruned at this moment
                    size, head = known.get(path, (0, ""))
                    # What was read and then lost with the power may have been written over.
                    self._read(db, path, size if self._journal.head(path, size) == head else 0)

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
        """Take over entries that were written just now.

        Args:
            entries: what was written.
            spans: what :meth:`Journal.write` returned for them.
        """
        with telling(self._path), self._transaction() as db:
            _apply(db, entries)
            for path, span in spans.items():
                # Only what follows without a gap: a gap is what another process wrote.
                if span.start == 0:
                    db.execute("insert or ignore into files values (?, 0, '')", (path,))
                db.execute(
                    "update files set size = ?, head = ? where path = ? and size = ?",
                    (span.end, span.head, path, span.start),
                )

    def states(self, ids: Iterable[str]) -> dict[str, State]:
        """Look actions up; those that were never begun are missing in the answer."""
        wanted = json.dumps(list(ids))
        return {
            state.id: state
            for state in self._select("id in (select value from json_each(?))", wanted)
        }

    def pending(self) -> list[State]:
        """The actions that were begun and have no result, oldest first."""
        return self._select("status = 0 order by first")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            # In this mode a loss of power leaves an older state, which catches up, never a
            # mixture.
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
                if self._db.in_transaction:  # of some failures SQLite rolls it back itself
                    self._db.execute("rollback")
                raise

    def _read(self, db: sqlite3.Connection, path: str, size: int) -> None:
        end = size
        entries = []
        for entry, end in self._journal.read(path, start=size):  # noqa: B007 - the last one counts
            entries.append(entry)
        _apply(db, entries)
        head = self._journal.head(path, end)
        db.execute("insert or replace into files values (?, ?, ?)", (path, end, head))

    def _select(self, condition: str, *arguments: object) -> list[State]:
        with telling(self._path), self._lock:
            rows = self._db.execute(f"{_SELECT} where {condition}", arguments).fetchall()
        return [
            State(
                id_,
                Status(status),
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
    """The statement that an entry is, and its parameters."""
    ts = entry.ts.timestamp()
    if entry.phase is Phase.INTENT:
        return _INTENT, (entry.id, entry.action, entry.attempt, ts, ts, entry.signal_text())
    if entry.phase is Phase.WITHDRAWN and entry.attempt == 1:
        return _WITHDRAWN, (entry.id,)
    return _END, (_status(entry), ts, entry.id)


def _status(entry: Entry) -> Status:
    match entry.phase:
        case Phase.UNKNOWN:
            return Status.UNKNOWN
        case Phase.INTERRUPTED | Phase.WITHDRAWN:  # the second attempt was not begun
            return Status.INTERRUPTED
        case _:
            return Status.DONE if entry.success else Status.FAILED


_PRIMARY = 0xFF
"""The part of an error code of SQLite that tells its kind."""
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MAY_NOT = "Let this user write to it and to its directory, or name another journal."
_TODO = {
    sqlite3.SQLITE_READONLY: _MAY_NOT,
    sqlite3.SQLITE_CANTOPEN: _MAY_NOT,
    sqlite3.SQLITE_PERM: _MAY_NOT,
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_IOERR: "See whether its disk is full or failing.",
    sqlite3.SQLITE_BUSY: "See which other process holds it.",
}


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
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
            todo=_TODO.get(code, "Start again: if it is damaged, it is made anew."),
            path=str(path),
        ) from error


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether it helps to make it anew; a full disk and a missing permission would stay."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & _PRIMARY in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


class Status(enum.IntEnum):
    """How far an action has come."""

    PENDING = 0
    """Begun; no result is recorded."""
    DONE = 1
    FAILED = 2
    UNKNOWN = 3
    """Begun, and nobody can tell whether it was done."""
    INTERRUPTED = 4
    """Begun, interrupted, and not done."""


class State(NamedTuple):
    """What is known of an action.

    Attributes:
        id: of the action.
        status: how far it has come.
        action: the name of the handler.
        attempt: how often it was tried.
        first: when it was first tried.
        last: when something was last recorded of it.
        signal: what it was taken on; only while it is pending.
    """

    id: str
    status: Status
    action: str
    attempt: int
    first: datetime
    last: datetime
    signal: Mapping[str, object] | None
