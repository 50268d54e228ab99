"""Writes files and directories of this host atomically.

They are written beside their destination and renamed to it once they are complete. A process that
is killed meanwhile leaves a file named ``.core-infra-copy-PID-…``, which the next copy into that
directory removes.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.medium._deletion import delete_tree
from core_infra.vm._free_space import HostFullError, is_no_room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PART = ".core-infra-copy-"
_BLOCK = 4096


@contextlib.contextmanager
def atomic_file(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file to write to, which becomes *path* at the end of the block.

    A link is followed; an existing device or the like is written directly.

    Args:
        path: the destination; its directory is made.
        what: the operation, for an error.

    Raises:
        InvalidError: this host cannot write it.
        HostFullError: it has no room for it.
    """
    with _explained(what):
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if place.exists() and not place.is_file():
            with place.open("wb", buffering=0) as file:
                yield file
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        fd, part = tempfile.mkstemp(dir=place.parent, prefix=f"{_PART}{os.getpid()}-")
        try:
            os.close(fd)
            with Path(part).open("r+b") as file:
                if place.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(place.stat().st_mode))
                else:
                    os.fchmod(file.fileno(), 0o666 & ~_umask())
                yield file
            Path(part).replace(place)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_tree(path: Path, what: str) -> Iterator[Path]:
    """An empty directory, whose content becomes that of *path* at the end of the block.

    What is in *path* already stays, but for what has the same name: each file is the old one or
    the new one, at any moment.

    Raises:
        InvalidError: this host cannot write it, or there is something else of that name.
        HostFullError: it has no room for it.
    """
    with _explained(what):
        if path.is_symlink() and not path.exists():
            raise InvalidError(what, why=f"{path} is a link to nothing")
        exists = path.is_dir()
        base = path if exists else path.parent
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base)
        part = Path(tempfile.mkdtemp(dir=base, prefix=f"{_PART}{os.getpid()}-"))
        try:
            part.chmod(0o777 & ~_umask())
            yield part
            if exists:
                _merge(part, path, what)
            else:
                part.rename(path)
        finally:
            _remove(part)


def write_sparsely(pieces: Iterable[bytes], file: BinaryIO) -> None:
    """Write a new file, leaving out blocks of zeros, which read the same and take no room."""
    end = 0
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), 16 * _BLOCK):
            block = view[start : start + 16 * _BLOCK]
            if any(block):
                file.write(block)
            else:
                file.seek(len(block), os.SEEK_CUR)
        end += len(piece)
    file.truncate(end)


def _merge(source: Path, target: Path, what: str) -> None:
    todo = [(source, target)]
    while todo:
        inner, place = todo.pop()
        for one in inner.iterdir():
            there = place / one.name
            if one.is_dir() and not one.is_symlink():
                if there.is_symlink() or (there.exists() and not there.is_dir()):
                    raise InvalidError(what, why=f"{there} is not a directory")
                if there.is_dir():
                    todo.append((one, there))
                    continue
                mode = stat.S_IMODE(one.stat().st_mode)
                one.chmod(mode | stat.S_IRWXU)  # a directory that moves must be writable
                one.rename(there)
                there.chmod(mode)
            else:
                if there.is_dir() and not there.is_symlink():
                    raise InvalidError(what, why=f"{there} is a directory")
                one.replace(there)


def _sweep(directory: Path) -> None:
    for old in directory.glob(f"{_PART}*"):
        pid = old.name.removeprefix(_PART).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            if old.is_dir() and not old.is_symlink():
                _remove(old)
            else:
                with contextlib.suppress(OSError):
                    old.unlink()


def _remove(directory: Path) -> None:
    with contextlib.suppress(OSError):
        above = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            delete_tree(above, directory.name)
        finally:
            os.close(above)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = HostFullError if is_no_room(error) else InvalidError
        raise kind(what, why=str(error)) from error


def _umask() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition("Umask:")[2].split()[0], 8)
