"""What SQLite's failures come to: what a new index mends, and what only a person can."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from core_infra.medium.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
