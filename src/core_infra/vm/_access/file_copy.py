"""Copies files and directories between this host and a machine, by commands in the machine."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra._unpatched import time
from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._access.interface import run_to_end
from core_infra.vm._guest import copy_scripts, tree_transfer
from core_infra.vm._guest.atomic_write import atomic_file, atomic_tree, write_sparsely
from core_infra.vm._guest.copy_scripts import BLOCK
from core_infra.vm._guest.file_transfer import base_name, file_mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._access.interface import GuestAccess, RunningCommand
    from core_infra.vm._guest.process import GuestProcess


_NOT_THERE = 3
_LOOK = rf"""
stat -L -c '%F|%a|%Y|%s|%b' -- "$1" && exit
[ -e "$1" ] || exit {_NOT_THERE}
"""
_REGULAR = "regular"
_CHUNK = 1 << 16
_MOST = 256
_TIDY = 10.0
"""Seconds for the guest to remove the partial files of an interrupted copy."""


def push(access: GuestAccess, source: str, target: str) -> None:
    """Copy a file or a directory of this host into the machine, as ``cp -r`` does.

    The copy becomes *target*, or goes into it under its own name if *target* is a directory. A
    file also goes into a *target* that ends in ``/``. If a directory's path ends in ``/.``, its
    content goes into the directory *target*. Missing parents are created. Links within a directory
    stay links; modes, times and the holes of a sparse file are kept. Each file is replaced in one
    step: a reader in the machine sees the old file or the new one.

    Raises:
        NotFoundError: *source* does not exist.
        CommandFailedError: the machine cannot write it; says why.
    """
    path = Path(source)
    if not path.exists():
        raise NotFoundError(f"cannot copy {path}", why="it does not exist")
    what = f"cannot copy {path} to {target}"
    mode = file_mode(path)
    if mode is None:
        name = "" if is_content(source) else path.absolute().resolve().name
    else:
        name = path.name
        target = f"{target}{name}" if target.endswith("/") else target
    try:
        if mode is None:
            argv = tree_transfer.unpack_command(target, path, name=name)
            with access.start(argv) as process:
                tree_transfer.send_tree(_as_guests(process), path)
                _finish(process, what)
        else:
            _push_file(access, path, target, mode, what)
    except OSError as error:
        raise InvalidError(what, why=str(error)) from error
    except CommandFailedError:
        raise  # the machine has removed its partial files
    except BaseException:
        with contextlib.suppress(CoreInfraError):
            _tidy(access, target, name)
        raise


def pull(access: GuestAccess, source: str, target: str) -> None:
    """Copy a file or a directory of the machine to this host, as ``cp -r`` does.

    The rules are those of :func:`push`. Nothing is written outside *target*, even if the machine
    sends other names.

    Raises:
        NotFoundError: *source* does not exist.
        CommandFailedError: the machine cannot read it; says why.
        InvalidError: it is a device or the like; or this host cannot write it.
    """
    path = Path(target)
    what = f"cannot copy {source} to {path}"
    about = _look(access, source, what)
    kind = about[0]
    is_whole = not (kind == "directory" and is_content(source))
    if is_whole and (path.is_dir() or (kind != "directory" and target.endswith("/"))):
        path = path / base_name(source)
    if kind == "directory":
        if path.exists() and not path.is_dir():
            raise InvalidError(what, why=f"{path} is not a directory")
        with atomic_tree(path, what) as part:
            with access.start(["/bin/sh", "-c", tree_transfer.pack_command(source)]) as process:
                process.close_stdin()
                output = tree_transfer.receive_tree(_as_guests(process), part)
                _require(process, what, output)
            _set(part, about)
        return
    if kind and not kind.startswith(_REGULAR):
        raise InvalidError(what, why=f"it must be a file or a directory; it is a {kind}")
    with atomic_file(path, what) as file:
        errors: list[bytes] = []
        is_plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        with access.start(["cat", "--", source]) as process:
            process.close_stdin()
            pieces = _stdout(process, errors)
            if is_plain and _is_sparse(about):
                write_sparsely(pieces, file)
            else:
                file.writelines(pieces)
            _require(process, what, b"".join(errors))
        file.flush()
        if is_plain:
            _set(Path(file.name), about)


def is_content(source: str) -> bool:
    """Whether a path means a directory's content, not the directory."""
    return source in (".", "./") or source.rstrip("/").endswith("/.")


def _push_file(access: GuestAccess, path: Path, target: str, mode: int, what: str) -> None:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        parts = extents(file)
        data = file.read() if status.st_size == 0 else None  # may be a file of /proc or /sys
        size = status.st_size if data is None else len(data)
        facts = [f"{mode & 0o777:o}", f"{status.st_mtime:.9f}", str(size)]
        blocks = [str(number) for part in parts for number in part]
        argv = ["/bin/sh", "-c", copy_scripts.FILE, "sh", target, path.name, *facts, *blocks]
        with access.start(argv) as process:
            for piece in data_of(file, size, parts) if data is None else [data]:
                if not process.is_running():  # it has failed
                    break
                process.send_input(piece)
            process.close_stdin()
            _finish(process, what)


def _tidy(access: GuestAccess, target: str, name: str) -> None:
    argv = ["/bin/sh", "-c", copy_scripts.SWEEP, "sh", target, name]
    with access.start(argv, timeout=_TIDY) as process:
        process.close_stdin()
        process.wait()


def _set(place: Path, about: Sequence[str]) -> None:
    """Set the mode and time of a copy, as the machine's ``stat`` has printed them."""
    _, mode, changed, *_ = about if len(about) > 1 else ("", "", "")
    if mode:
        place.chmod(int(mode, 8) & 0o777)
        os.utime(place, (time.time(), int(changed)))


def _is_sparse(about: Sequence[str]) -> bool:
    return len(about) > 1 and int(about[4]) * 512 < int(about[3])


def _stdout(process: RunningCommand, errors: list[bytes]) -> Iterator[bytes]:
    for stream, data in process.chunks():
        if stream == "stdout":
            yield data
        else:
            errors.append(data)


def _look(access: GuestAccess, source: str, what: str) -> list[str]:
    """What the machine's ``stat`` prints of a file; one empty text if it has no such program.

    Raises:
        NotFoundError: there is no such file.
    """
    result = run_to_end(access, ["/bin/sh", "-c", _LOOK, "sh", source])
    if result.exit_code == _NOT_THERE:
        raise NotFoundError(what, why=result.stderr.strip() or "the machine has no such file")
    return result.stdout.strip().split("|")


def _finish(process: RunningCommand, what: str) -> None:
    _require(process, what, b"".join(data for _, data in process.chunks()))


def _require(process: RunningCommand, what: str, output: bytes) -> None:
    code = process.wait()
    if code != 0:
        raise CommandFailedError(
            what,
            why=output.decode("utf-8", "replace").strip() or f"exit code {code}",
            command=[],
            exit_code=code,
            stdout=b"",
            stderr=output,
        )


def _as_guests(process: RunningCommand) -> GuestProcess:
    # The functions for trees use only what a RunningCommand has.
    return cast("GuestProcess", process)


def extents(file: BinaryIO) -> list[tuple[int, int]]:
    """The first block and the number of blocks of each part with data; empty without holes.

    There are at most some hundreds: the smallest holes count as data.
    """
    size = os.fstat(file.fileno()).st_size
    found: list[tuple[int, int]] = []
    smallest = max(1 << 20, size // _MOST)
    at = 0
    while at < size:
        try:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # only a hole is left
            break
        at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        first, last = start // BLOCK, -(-at // BLOCK)
        if found and first * BLOCK - sum(found[-1]) * BLOCK < smallest:
            found[-1] = (found[-1][0], last - found[-1][0])
        else:
            found.append((first, last - first))
    file.seek(0)
    if sum(count for _, count in found) * BLOCK > size - smallest:
        return []
    return found or [(0, 1)]


def data_of(file: BinaryIO, size: int, parts: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The first *size* bytes of a file, or those of its parts, with the last block padded."""
    if not parts:
        while size > 0 and (data := file.read(min(_CHUNK, size))):
            size -= len(data)
            yield data
    for first, count in parts:
        file.seek(first * BLOCK)
        left = count * BLOCK
        while left:
            data = file.read(min(_CHUNK, left)).ljust(min(_CHUNK, left), b"\0")
            left -= len(data)
            yield data
