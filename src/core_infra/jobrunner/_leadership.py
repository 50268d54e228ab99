"""One poller acts on a journal, the others stand by."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from core_infra.errors import WrongStateError
from core_infra.medium._errors import path_error

_NAME = ".leader.lock"


class NotLeaderError(WrongStateError):
    """Another poller acts on this journal."""


class Leadership:
    """A lock that at most one poller of a journal holds; the kernel releases it if that one dies.

    Args:
        base_dir: the journal's directory.
    """

    def __init__(self, base_dir: str) -> None:
        path = Path(base_dir, _NAME)
        self._lock = FileLock(path, thread_local=False)

    @property
    def is_held(self) -> bool:
        """Whether this poller holds it."""
        return bool(self._lock.is_locked)

    def acquire(self) -> bool:
        """Acquire the lock, unless this poller has it already.

        Returns:
            Whether it was acquired just now.

        Raises:
            NotLeaderError: another poller holds it.
            AccessDeniedError: the journal's directory is not writable.
            StorageError: the disk is full or failing.
        """
        if self._lock.is_locked:
            return False
        path = self._lock.lock_file
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise NotLeaderError(
                f"cannot act on the journal of {path}",
                why="another poller does",
                todo="Stop it, or let this one stand by: run it instead of a single cycle.",
                needed="leader",
                found="standing by",
            ) from error
        except OSError as error:
            raise path_error(error.errno or 0, "lock", path) from error
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
