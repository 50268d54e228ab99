"""The cache directory: images, disks, accelerators that work, snapshots. All can be made again.

A cache that is full, or cannot be written, can still be read: what it lacks goes to a private
directory, which is removed when this process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout

from core_infra._unpatched import Path, os, tempfile
from core_infra.errors import TimeoutExpiredError
from core_infra.vm._free_space import LITTLE, MAKE_ROOM, HostFullError, described, free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_news: list[str] = []


def cache_root() -> Path:
    """The cache directory: ``$CORE_INFRA_CACHE_DIR``, else core-infra's in the user's own.

    It need not exist yet. Deleting it costs nothing but the time to fill it again.
    """
    chosen = os.environ.get("CORE_INFRA_CACHE_DIR")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("core-infra")


def places(directory: Path) -> list[Path]:
    """The directories to search for files of *directory*: itself, and its stand-in if any."""
    stand_in = _stand_ins.get((os.getpid(), directory))
    return [directory] if stand_in is None else [directory, stand_in]


def found(directory: Path, name: str) -> Path | None:
    """The file *name* of *directory* or its stand-in; None if it must be made."""
    return next((path for place in places(directory) if (path := place / name).exists()), None)


def writable(directory: Path, room: int = LITTLE) -> Path:
    """The directory, made if necessary; if it cannot be written, its private stand-in.

    Args:
        directory: a directory of the cache.
        room: bytes that must be free there.

    Raises:
        UnavailableError: neither can be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        why = "" if free(directory) >= room else described(directory)
        if why and room > LITTLE:
            why += f", and {room >> 20} MiB may be needed"
    except OSError as error:
        why = error.strerror or str(error)
    return stand_in(directory, why, room) if why else directory


def stand_in(directory: Path, why: str, room: int = LITTLE) -> Path:
    """The private stand-in for a directory of the cache; it is removed when this process ends.

    Args:
        directory: a directory of the cache.
        why: why it cannot be used; reported once.
        room: bytes that must be free in the private one.

    Raises:
        UnavailableError: it cannot be written to.
    """
    key = os.getpid(), directory
    if key not in _stand_ins:
        root = _private()
        if free(root) < room:
            raise HostFullError(
                f"cannot write to {directory}",
                why=f"{why}; and instead of it, {described(root)}",
                todo=MAKE_ROOM,
            )
        _stand_ins[key] = root / f"{len(_stand_ins)}-{directory.name}"
        _stand_ins[key].mkdir()
        _news.append(
            f"{directory} cannot be used ({why}): what it lacks is made in {root}, for this run "
            "only; CORE_INFRA_CACHE_DIR chooses another place"
        )
    return _stand_ins[key]


@contextlib.contextmanager
def locked(
    path: Path, doing: str, progress: Callable[[str], None], *, timeout: float | None = None
) -> Iterator[None]:
    """Hold a lock file, which the kernel releases with the process.

    Args:
        path: the file.
        doing: what another process does while it holds the lock, such as "builds the same image".
        progress: called with a line if the lock is held.
        timeout: seconds to wait for it; None is no limit.

    Raises:
        TimeoutExpiredError: another process holds it for longer.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process that {doing}")
        try:
            lock.acquire(timeout=timeout)
        except Timeout as error:
            raise TimeoutExpiredError(
                f"another process has held {path} for more than {timeout} s", timeout=timeout
            ) from error
    try:
        yield
    finally:
        lock.release()


def report_news(report: Callable[[str], None]) -> None:
    """Report each problem with the cache once."""
    while _news:
        report(_news.pop(0))


_stand_ins: dict[tuple[int, Path], Path] = {}


@functools.cache
def _of_process(process: int) -> Path:
    from core_infra.vm._run_directory import RunDirectory  # noqa: PLC0415 - dear, and hardly ever needed

    run = RunDirectory()
    atexit.register(lambda: run.close() if os.getpid() == process else None)
    return run.path


def _private() -> Path:
    """A directory that is removed when this process ends, or by the next run if it is killed."""
    return _of_process(os.getpid())
