"""A journal that several hosts share by a PostgreSQL database."""

from __future__ import annotations

import contextlib
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.jobrunner._journal import day_files
from core_infra.jobrunner._journal.entry import Entry
from core_infra.jobrunner._journal.hash_chain import body_of
from core_infra.jobrunner._journal.journal import Journal
from core_infra.medium._errors import PathNotFoundError, StorageError
from core_infra.medium._local import LocalMedium

try:
    import psycopg
except ImportError as missing:
    raise UnavailableError(
        "cannot share a journal by a database",
        why="that needs psycopg",
        todo="Install it with: pip install core-infra[postgresql]",
    ) from missing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._journal.log_file import Span

_LOCK = 0x636F7265
"""The key of the advisory lock: "core"."""
_TABLE = """
create table if not exists core_infra_journal (
    seq bigint generated always as identity primary key,
    replica text not null,
    path text not null,
    body bytea not null
)
"""
_INSERT = "insert into core_infra_journal (replica, path, body) values (%s, %s, %s)"
_NEWEST = """
select coalesce(max(seq), 0), coalesce(max(seq) filter (where replica <> %s), 0)
from core_infra_journal where seq > %s
"""
_ROWS = "select path, body from core_infra_journal where seq > %s and seq <= %s order by seq"
_MARK = ".database"
_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 10,
    # A host that has vanished loses its lock after half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "application_name": "core-infra jobs",
}


class SharedJournal(Journal):
    """A journal whose entries are in a PostgreSQL database, too.

    An entry is in the database before it is in the files, and the poller that leads writes with the
    very connection that holds the advisory lock: one that has lost it cannot record an intent, and
    so cannot start an action. Each host has the files of all, as far as it has read them.

    Args:
        base_dir: the directory of this host's files.
        database: has the address of the database, in the form of libpq. A database, or a schema by
            its ``search_path``, for each bot.
    """

    def __init__(self, base_dir: str | os.PathLike[str], database: Secret) -> None:
        super().__init__(base_dir)
        self._database = database
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._holds = False
        self._using = threading.RLock()
        self._replica = uuid.uuid4().hex
        """Distinguishes the entries of this object from those of others."""
        self._read_up_to = -1

    def lead(self) -> bool:
        """Hold the lock; return whether it was acquired just now.

        Raises:
            StorageError: the database cannot be used.
            BlockingIOError: another host holds it.
        """
        with self._using, self._errors():
            if self._holds and self._is_alive():
                return False
            self._disconnect()
            (held,) = self._one("select pg_try_advisory_lock(%s)", _LOCK)
            if not held:
                raise BlockingIOError("another host leads")
            self._holds = True
            return True

    @property
    def leads(self) -> bool:
        """Whether it holds the lock, as far as is known."""
        return self._holds

    def unlead(self) -> None:
        """Release the lock."""
        with self._using:
            self._disconnect()

    def write(self, entries: Iterable[Entry]) -> dict[str, Span]:
        """Record entries, first in the database; see :meth:`Journal.write`."""
        some = list(entries)
        rows = [(self._replica, entry.path(), entry.encode()) for entry in some]
        with self._using:
            with self._errors():
                # With a lost connection the lock is lost, too: nothing may be recorded.
                connection = self._connection if self._holds else self._connected()
                if connection is None or connection.closed:
                    raise psycopg.OperationalError("the connection that held the lock is lost")
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany(_INSERT, rows)
            try:
                return super().write(some)
            except CoreInfraError:
                # They are in the database only: the next pull adds them, as those of others.
                self._replica = uuid.uuid4().hex
                raise

    def pull(self) -> bool:
        """Add what other hosts have written to the files of this one.

        Returns:
            Whether there was something.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._using, self._errors():
            mark = self._read_up_to if self._read_up_to >= 0 else self._mark()
            newest, of_others = self._one(_NEWEST, self._replica, mark)
            if of_others:
                self._add(self._connected().execute(_ROWS, (mark, newest)).fetchall())
            self._read_up_to = max(mark, newest)
            if newest > mark:
                LocalMedium(root=self.base_dir).write_text(_MARK, str(newest))
            return bool(of_others)

    def _add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        # Those that are in the files already are ours: written, or pulled before a kill.
        known: dict[str, set[bytes]] = {}
        states: dict[str, set[bytes]] = {}
        new = []
        for path, raw in rows:
            if path not in known:
                known[path] = set(self._bodies(path))
                states[path] = set(self._bodies(day_files.pruned(path)))
            body = bytes(raw)
            if body not in known[path] and not (states[path] and _state(body) in states[path]):
                new.append((path, body))
        if new:
            self.write_bodies(new)

    def close(self) -> None:
        """Close its files and the connection."""
        self.unlead()
        super().close()

    def _mark(self) -> int:
        """Up to where the database's entries are in the files."""
        try:
            return int(Path(self.base_dir, _MARK).read_text("ascii"))
        except (OSError, ValueError):
            return 0

    def _bodies(self, path: str) -> Iterator[bytes]:
        with contextlib.suppress(PathNotFoundError), self._directory.open(path) as file:
            for line in file:
                yield body_of(line)

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._database.read(), **_OPTIONS)
            (is_there,) = self._one("select to_regclass('core_infra_journal') is not null")
            if not is_there:
                self._connection.execute(_TABLE)
            Path(self.base_dir).mkdir(parents=True, exist_ok=True)
        return self._connection

    def _one(self, query: str, *arguments: object) -> tuple[Any, ...]:
        """The only row of a query that always has one."""
        (found,) = self._connected().execute(query.encode(), arguments).fetchall()
        return found

    def _is_alive(self) -> bool:
        try:
            return self._connection is not None and bool(self._connection.execute("select 1"))
        except psycopg.Error:
            return False

    def _disconnect(self) -> None:
        self._holds = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise StorageError(
                "cannot use the database of the journal",
                why=" ".join(str(error).split()),
                todo="See whether it runs and lets this user connect and create a table.",
            ) from None  # the error may have the password


def _state(body: bytes) -> bytes:
    """What pruning leaves of a record; of one that is not an entry, all."""
    try:
        return day_files.bare(Entry.decode(body + b"}")).encode()
    except InvalidError:
        return body
