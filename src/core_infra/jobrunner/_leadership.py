"""One poller acts on a journal, the others stand by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from filelock import FileLock, Timeout

from core_infra.errors import WrongStateError
from core_infra.medium._errors import path_error

if TYPE_CHECKING:
    from core_infra.jobrunner._journal.journal import Journal
    from core_infra.jobrunner._journal.shared import SharedJournal

_NAME = ".leader.lock"


class NotLeaderError(WrongStateError):
    """Another poller acts on this journal."""


class Leadership:
    """A lock that at most one poller of a journal holds; the kernel releases it if that one dies.

    If the journal is shared by several hosts, the leader holds the lock of its database, too; that
    one is released when the connection is lost.

    Args:
        journal: the journal.
    """

    def __init__(self, journal: Journal) -> None:
        path = Path(journal.base_dir, _NAME)
        self._shared = cast("SharedJournal", journal) if hasattr(journal, "lead") else None
        self._lock = FileLock(path, thread_local=False, mode=0o600)

    @property
    def is_held(self) -> bool:
        """Whether this poller holds it."""
        return bool(self._lock.is_locked) and (self._shared is None or self._shared.leads)

    def acquire(self) -> bool:
        """Acquire the lock, unless this poller has it already.

        Returns:
            Whether it was acquired just now.

        Raises:
            NotLeaderError: another poller holds it.
            AccessDeniedError: the journal's directory is not writable.
            StorageError: the disk is full or failing.
        """
        if not self._lock.is_locked:
            self._acquire_here()
            if self._shared is None:
                return True
        if self._shared is None:
            return False
        try:
            return self._shared.lead()
        except BaseException as error:
            self._lock.release()
            if isinstance(error, BlockingIOError):
                raise _not_leader("database", "another host does") from None
            raise

    def release(self) -> None:
        """Release the lock."""
        if self._shared is not None:
            self._shared.unlead()
        self._lock.release()

    def _acquire_here(self) -> None:
        path = self._lock.lock_file
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise _not_leader(path, "another poller does") from error
        except OSError as error:
            raise path_error(error.errno or 0, "lock", path) from error


def _not_leader(path: str, why: str) -> NotLeaderError:
    return NotLeaderError(
        f"cannot act on the journal of {path}",
        why=why,
        todo="Stop it, or let this one stand by: run it instead of a single cycle.",
        needed="leader",
        found="standing by",
    )
