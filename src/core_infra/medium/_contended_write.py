"""Writes a file whose directory other programs keep deleting."""

# The order of the system calls is the point.

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from typing import TYPE_CHECKING

from core_infra.medium._opening import TRIES, Made, open_above_target, open_dir, while_deleted
from core_infra.medium._replacement import Replacement
from core_infra.medium._temporary import discard, make_unfinished

if TYPE_CHECKING:
    from core_infra.medium._opening import Open

_NEXT_ABOVE = {errno.ENOENT, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of a directory that was deleted or cannot hold the file; one above it may do."""


def write_contended(open_path: Open, where: str, data: bytes, mode: int | None) -> None:
    """Write a whole file, atomically and durably, although its directory keeps being deleted.

    The content is written and flushed, which takes long, in a directory above, where only its
    owner may open it. Then it is moved into its own, gets its access there, and is renamed.

    Args:
        open_path: opens paths.
        where: the file's path.
        data: its content.
        mode: its permission bits; by default those of the file it replaces.

    Raises:
        OSError: ENOENT if no directory above lasts, or the system's error.
    """
    above = posixpath.dirname(where)
    while above not in {"", ".", "/"}:
        above = posixpath.dirname(above)
        try:
            holder = open_dir(open_path, above or ".")
        except FileNotFoundError:
            continue
        try:
            _write_from(holder, open_path, where, data, mode)
        except OSError as error:
            if error.errno not in _NEXT_ABOVE:
                raise
        else:
            return
        finally:
            os.close(holder)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _write_from(holder: int, open_path: Open, where: str, data: bytes, mode: int | None) -> None:
    for _ in range(TRIES):
        fd, unfinished = make_unfinished(holder, posixpath.basename(where), private=True)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(fd)

            content = fd, holder, unfinished

            def attempt(made: Made, content: tuple[int, int, str] = content) -> None:
                _move(content, *open_above_target(open_path, where, made), mode)
                made.sync()

            while_deleted(attempt)
        except OSError as error:
            if error.errno != errno.ESTALE:  # deleted together with its directory: once more
                raise
        else:
            return
        finally:
            discard(fd, holder, unfinished)
            os.close(fd)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _move(content: tuple[int, int, str], directory: int, name: str, mode: int | None) -> None:
    """Replace a file by an unfinished one, given by the arguments of :meth:`Replacement.take`."""
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, directory)
        if not os.fstat(content[0]).st_nlink:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        replacement = Replacement(directory, name, mode)
        undo.pop_all()
        undo.callback(os.close, replacement.fd)
        undo.callback(replacement.abandon)
        replacement.take(*content)
        replacement.commit()
