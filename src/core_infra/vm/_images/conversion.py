"""Converts disks that QEMU cannot clone, such as vmdk, to qcow2: once, into the cache.

QEMU cannot save or fork a machine if the format of its disk does not support migration, and it
cannot read packed disks at all. The key of a converted disk is made of the names, inodes, sizes and
times of the original files: if one of them changes, the disk is converted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra._unpatched import time
from core_infra.errors import InvalidError
from core_infra.vm._cache import cache_root, found, locked, places, writable
from core_infra.vm._free_space import written
from core_infra.vm._images.compression import unpacked
from core_infra.vm._images.disk_files import DiskFile, disk_files, qcow_tables
from core_infra.vm._images.formats import ImageFormat, detect_format
from core_infra.vm._images.qemu_img import convert, qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT = 16 << 30
"""Bytes on the disk; above this limit the least recently used converted disks are removed."""

_VERSION = 1
_USED_NOW = 3600  # seconds: another process may be about to use it
_PREFIX = "converted-"
_UNFINISHED = ".making-"
_STEP = 10.0
_PIECE = 1 << 20
_BLOCK = 1 << 16
_HOLE = bytes(_BLOCK)
_TAIL = 1 << 16  # bytes that may be missing: of the last cluster, only what is used is written


class Converted(NamedTuple):
    """A disk that was converted.

    Attributes:
        path: its file.
        what: the original, for display.
        used: time of last use, in seconds since the epoch.
        size: bytes on the disk.
    """

    path: Path
    what: str
    used: float
    size: int


def converted(
    path: Path, format_: ImageFormat, files: Sequence[DiskFile], progress: Callable[[str], None]
) -> Path:
    """The disk at *path* as qcow2, from the cache; converted first if it is not there.

    The cache has the whole disk or nothing, even if this process is killed.

    Args:
        path: the disk.
        format_: its format.
        files: all files of the disk.
        progress: called with a line now and then if it takes long.

    Raises:
        InvalidError: the disk is damaged, or was changed meanwhile.
        UnavailableError: the disk is full, or qemu-img is not installed.
    """
    before = _stamps(files)
    key = hashlib.sha256(json.dumps([_VERSION, format_, before]).encode()).hexdigest()[:24]
    name, directory = f"{_PREFIX}{key}.qcow2", _directory()
    kept = found(directory, name)
    if kept is None:
        needed = _needed(path, format_)
        directory = writable(directory, needed)
        with (
            written(f"{path}, converted", directory),
            locked(directory / f"{key}.lock", "converts the same disk", progress),
        ):
            kept = found(directory, name) or _make(path, format_, directory / name, progress)
            if _stamps(files) != before:
                kept.unlink()
                raise InvalidError(
                    f"cannot use {path} as a disk", why="it was written to while it was read"
                )
        prune(LIMIT, keep=kept)
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        # The modification time stays: the keys of snapshots contain it.
        os.utime(kept, ns=(time.time_ns(), kept.stat().st_mtime_ns))
    return kept


def all_converted() -> list[Converted]:
    """All converted disks, the last used one first."""
    listed = []
    for path in (one for place in places(_directory()) for one in place.glob(f"{_PREFIX}*.qcow2")):
        with contextlib.suppress(OSError):  # another process has just removed it
            status = path.stat()
            what = path.with_suffix(".json")
            original = json.loads(what.read_text())["what"] if what.exists() else "?"
            listed.append(Converted(path, original, status.st_atime, status.st_blocks * 512))
    return sorted(listed, key=lambda one: -one.used)


def prune(limit: int, *, keep: Path | None = None, unused: float = _USED_NOW) -> list[Converted]:
    """Remove the least recently used converted disks until at most *limit* bytes are left.

    Running machines are not affected.

    Args:
        limit: bytes.
        keep: a disk that stays.
        unused: a disk that was used within the last *unused* seconds stays, too.

    Returns:
        The removed disks.
    """
    removed, total, now = [], 0, time.time()
    for one in all_converted():
        if total + one.size > limit and one.path != keep and now - one.used >= unused:
            with contextlib.suppress(OSError):
                one.path.unlink()
                one.path.with_suffix(".json").unlink(missing_ok=True)
                removed.append(one)
        else:
            total += one.size
    return removed


def _directory() -> Path:
    return cache_root() / "disks"


def _stamps(files: Sequence[DiskFile]) -> list[list[str | int]]:
    # The inode's change time, too: the modification time can be set to any value.
    return [[*part.stamp, part.path.stat().st_ctime_ns, part.format] for part in files]


def _needed(path: Path, format_: ImageFormat) -> int:
    if format_ is ImageFormat.PACKED:
        return path.stat().st_size
    answer = qemu_img(path, "measure", "-O", "qcow2", "--output=json", "-f", format_, str(path))
    return int(json.loads(answer)["required"])


def _make(path: Path, format_: ImageFormat, target: Path, progress: Callable[[str], None]) -> Path:
    for left in target.parent.glob(f"{_UNFINISHED}{target.stem}-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    prefix = f"{_UNFINISHED}{target.stem}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as directory:
        work = Path(directory)
        made = work / "disk.qcow2"
        size = sum(part.path.stat().st_size for part in disk_files(path, format_))
        progress(f"converting {path.name} ({format_}, {size >> 20} MiB): once, then it is cached")
        report = _Report(path, progress)
        source, kind = path, format_
        if format_ is ImageFormat.PACKED:
            source = work / "unpacked"
            _unpack(path, source, report)
            kind = _inside(path, source)
        if kind is ImageFormat.QCOW2 and source != path:
            qemu_img(path, "check", "-q", "-f", kind, str(source))
            source.rename(made)
        else:
            _check_whole(path, source, kind)
            convert(source, kind, made, report.percent, about=path)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        target.with_suffix(".json").write_text(json.dumps({"what": f"{path} ({format_})"}))
        made.rename(target)
    return target


def _inside(path: Path, source: Path) -> ImageFormat:
    """The format of the unpacked file, which must be a disk that refers to no other file."""
    try:
        kind = detect_format(source)
        disk_files(source, kind, alone=True)
    except InvalidError as error:
        raise InvalidError(
            f"cannot use {path} as a disk", why=error.why or error.what, todo=error.todo
        ) from error
    if kind in (ImageFormat.PACKED, ImageFormat.KERNEL, ImageFormat.ISO):
        raise InvalidError(f"cannot use {path} as a disk", why=f"it contains {kind}, not a disk")
    return kind


def _check_whole(path: Path, source: Path, kind: ImageFormat) -> None:
    """Raise InvalidError if a disk refers to data beyond its file's end, which read as zeros."""
    if kind is ImageFormat.RAW:
        return
    if kind is ImageFormat.VMDK:  # the map of several files does not say which one has what
        qemu_img(path, "check", "-q", "-f", kind, str(source))
        return
    size = source.stat().st_size
    answer = qemu_img(path, "map", "--output=json", "-f", kind, str(source))
    ends = [
        extent["offset"] + extent["length"]
        for extent in json.loads(answer)
        if extent["data"] and not extent["depth"] and "offset" in extent
    ]
    if kind is ImageFormat.QCOW:
        ends += qcow_tables(source)
    if (end := max(ends, default=0)) > size + _TAIL:
        raise InvalidError(
            f"cannot use {path} as a disk",
            why=f"it is truncated: it has {size} bytes, and should have {end}",
        )


def _unpack(path: Path, target: Path, report: _Report) -> None:
    """Unpack a file, with holes where it has only zeros."""
    with target.open("wb") as file:
        at = 0
        for piece in unpacked(path, _PIECE):
            for start in range(0, len(piece), _BLOCK):
                block = piece[start : start + _BLOCK]
                if block != _HOLE[: len(block)]:
                    file.seek(at)
                    file.write(block)
                at += len(block)
            report.line(f"unpacking {path.name}: {at >> 20} MiB")
        file.truncate(at)


class _Report:
    """Reports the progress of a conversion, every few seconds at most."""

    def __init__(self, path: Path, progress: Callable[[str], None]) -> None:
        self._path = path
        self._progress = progress
        self._last = time.monotonic()

    def percent(self, number: int) -> None:
        self.line(f"converting {self._path.name}: {number} %")

    def line(self, line: str) -> None:
        if time.monotonic() - self._last >= _STEP:
            self._last = time.monotonic()
            self._progress(line)
