"""The snapshots in the cache directory: each is built once, whatever number of processes use it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, os, shutil, tempfile
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._cache import locked, places, stand_in, writable
from core_infra.vm._free_space import LITTLE
from core_infra.vm._guest.atomic_write import write_sparsely
from core_infra.vm._snapshots.snapshot import (
    RECORD,
    Snapshot,
    read_snapshot,
    verify,
    write_snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_LIMIT = 4 << 30
"""Bytes on the disk; beyond them the least recently used snapshots are removed."""

_UNFINISHED = ".building-"


class SnapshotStore:
    """The snapshots of a cache directory.

    Args:
        root: the directory; made when the first snapshot is.
        limit: bytes that they may take together.
        progress: called with a line before something takes long.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit: int = DEFAULT_LIMIT,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._root = root
        self._limit = limit
        self._progress = progress

    def get(self, key: str, build: Callable[[Path], Snapshot], *, room: int = LITTLE) -> Snapshot:
        """The snapshot *key*, built if it is not there or is damaged.

        Where the directory cannot be written or has no room, it is built in one that stands in.

        Args:
            key: a digest of all that matters.
            build: makes its files in an empty directory, and returns it.
            room: bytes that these may take.

        Raises:
            UnavailableError: there is no room anywhere.
            OSError: its files cannot be written.
            CoreInfraError: as *build* does.
        """
        for place in places(self._root):
            with contextlib.suppress(NotFoundError, InvalidError):
                snapshot = self._at(place)._usable(key)  # noqa: SLF001 - one of ours
                return self._mappable(snapshot, room)
        return self._at(writable(self._root, room))._built(key, build)  # noqa: SLF001

    def _mappable(self, snapshot: Snapshot, room: int) -> Snapshot:
        """A snapshot whose memory QEMU can map: it opens the file to write, but never does."""
        if snapshot.memory is None or os.access(snapshot.memory, os.W_OK):
            return snapshot
        read_snapshot(snapshot.directory)  # raises if another process has just removed it
        place = stand_in(self._root, f"{snapshot.memory} cannot be opened to write", room)
        if not (place / snapshot.key).exists():
            work = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{snapshot.key}-", dir=place))
            try:
                for name in (*snapshot.digests, RECORD):
                    _copy_sparsely(snapshot.directory / name, work / name)
                with contextlib.suppress(OSError):  # another thread has just done the same
                    work.rename(place / snapshot.key)
            except FileNotFoundError as error:
                raise NotFoundError(f"There is no snapshot in {snapshot.directory}") from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return read_snapshot(place / snapshot.key)

    def _at(self, root: Path) -> SnapshotStore:
        """A store like this one, in another directory."""
        return SnapshotStore(root, limit=self._limit, progress=self._progress)

    def _built(self, key: str, build: Callable[[Path], Snapshot]) -> Snapshot:
        with locked(self._root / f"{key}.lock", "saves the same machine", self._progress):
            try:
                return self._usable(key)  # another process has just built it
            except InvalidError as error:
                self._progress(f"{error.what}: building it again")
            except NotFoundError:
                pass
            if (self._root / key).exists():  # damaged, or without its record
                self._remove(self._root / key)
            self._sweep(key)
            snapshot = self._build(key, build)
        self.prune(self._limit, keep=key)
        return snapshot

    def all(self) -> list[Snapshot]:
        """All whole snapshots, the last used first."""
        found = []
        for path in self._root.glob("[!.]*") if self._root.is_dir() else ():
            with contextlib.suppress(CoreInfraError, OSError):
                found.append((path.joinpath(RECORD).stat().st_mtime_ns, read_snapshot(path)))
        return [snapshot for _, snapshot in sorted(found, key=lambda pair: -pair[0])]

    def prune(self, limit: int, *, keep: str = "") -> list[Snapshot]:
        """Remove the least recently used snapshots until *limit* bytes are left.

        A machine that is being cloned from one is not disturbed: its files live on until it ends.

        Returns:
            What was removed.
        """
        removed, total = [], 0
        for snapshot in self.all():
            size = snapshot.size
            if total + size > limit and snapshot.key != keep:
                self._remove(snapshot.directory)
                removed.append(snapshot)
            else:
                total += size
        return removed

    def _usable(self, key: str) -> Snapshot:
        snapshot = read_snapshot(self._root / key)
        try:
            verify(snapshot)
        except InvalidError:
            read_snapshot(self._root / key)  # raises if another process has removed it meanwhile
            raise
        with contextlib.suppress(OSError):  # a cache that cannot be written can be used
            os.utime(snapshot.directory / RECORD)
        return snapshot

    def _build(self, key: str, build: Callable[[Path], Snapshot]) -> Snapshot:
        work = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{key}-", dir=self._root))
        try:
            write_snapshot(replace(build(work), key=key))
            snapshot = read_snapshot(work)
            work.rename(self._root / key)
            return replace(snapshot, directory=self._root / key)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _sweep(self, key: str) -> None:
        """Remove what killed builders left; only with the lock held."""
        for path in self._root.glob(f"{_UNFINISHED}{key}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, directory: Path) -> None:
        # First its name, atomically: a half removed snapshot would look like a damaged one.
        aside = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{directory.name}-", dir=self._root))
        with contextlib.suppress(OSError):
            directory.rename(aside / "removed")
        shutil.rmtree(aside, ignore_errors=True)


def _copy_sparsely(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        write_sparsely(iter(lambda: old.read(1 << 20), b""), new)
