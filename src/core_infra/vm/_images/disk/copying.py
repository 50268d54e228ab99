"""Copies parts of files, and files with holes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 4 << 20
_REPLACED = (errno.ENOENT, errno.ELOOP, errno.ENXIO)  # removed; by a link; by a socket
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to a new one. What is a hole stays one: a disk of some GiB is mostly holes."""
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        size, at = os.fstat(old.fileno()).st_size, 0
        new.truncate(size)
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    break
                raise
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            copy_range(old.fileno(), at, new.fileno(), at, end - at)
            at = end


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write bytes to a place of a file."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def open_source(path: Path | str, facts: tuple[int, int, int] | None) -> int:
    """Open a file whose content is to be copied; return its descriptor.

    Args:
        path: the file.
        facts: device, inode and mode that it must have; None: any.

    Raises:
        InvalidError: it is another file, or has another mode.
        OSError: it cannot be opened.
    """
    if facts is None:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Not to wait for the writer of a pipe that has taken the file's place.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _REPLACED:
            raise _changed(path, error.strerror or str(error)) from error
        raise
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino, status.st_mode) != facts:
        os.close(fd)
        raise _changed(path, "it is another file now, or has another mode")
    return fd


def _changed(path: Path | str, why: str) -> InvalidError:
    return InvalidError(
        f"{path} has changed while it was copied",
        why=why,
        todo="Run it again when nothing is being installed.",
    )


def copy_range(
    source: int, offset: int, target: int, at: int, size: int, *, name: str = "a file of the image"
) -> None:
    """Copy bytes of one file to another, within the kernel if it can.

    Raises:
        InvalidError: the source, which messages call *name*, ends before them.
    """
    while size > 0:
        try:
            done = os.copy_file_range(source, target, min(size, 1 << 30), offset, at)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            data = os.pread(source, min(size, _CHUNK), offset)
            write_all(target, data, at)
            done = len(data)
        if not done:
            raise InvalidError(f"{name} ends too early", why=f"{size} bytes are missing")
        offset, at, size = offset + done, at + done, size - done
