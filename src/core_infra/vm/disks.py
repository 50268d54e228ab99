"""The disks of disposable machines: each writes to a layer of its own, over what nobody writes to.

The layers are qcow2 files, made by ``qemu-img``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, InvalidError, UnavailableError
from core_infra.vm.cache import cache_root, written
from core_infra.vm.hypervisors.hypervisor import Disk
from core_infra.vm.images.format import ImageFormat, detect_format
from core_infra.vm.images.programs import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SIZE = re.compile(r"([1-9]\d*)([MGT])")
_LIKE_A_SIZE = re.compile(r"[-+]?[\d.]+\s*[a-zA-Z]*")
_UNITS = {"M": 20, "G": 30, "T": 40}
_LARGEST = 64 << 40
MOST = 20
"""Disks that a machine can have: as many as there is room for on its bus."""

_NO_CHECK = 63
_LEAKS_ONLY = 3
_FORM = "Say a size, such as 500M or 2G, or the path of an image: qcow2, vmdk, raw or iso."


def as_disks(wanted: Iterable[str | os.PathLike[str]]) -> list[Disk]:
    """Disks as a user asks for them.

    Args:
        wanted: of each, a size in powers of 1024, such as ``500M`` or ``2G``, for an empty disk; or
            the path of an image, which is never written to. An iso is read only.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is no size, and no image of a disk.
    """
    if isinstance(wanted, str | os.PathLike):
        raise InvalidError(f"cannot take {os.fspath(wanted)!r} for disks", todo="Say a list.")
    asked = list(wanted)
    if len(asked) > MOST:
        raise InvalidError(f"cannot give a machine {len(asked)} disks", why=f"{MOST} are the most")
    return [_disk(what) for what in asked]


def examine(disk_: Disk) -> None:
    """Look whether an image is whole, as far as its format can tell.

    Raises:
        InvalidError: it is damaged, or was cut.
    """
    if disk_.format in (ImageFormat.QCOW2, ImageFormat.VMDK):
        status = disk_.path.stat()
        _examine(disk_.path, disk_.format, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)  # once in each run, not for each machine
def _examine(path: Path, format_: str, _size: int, _modified: int) -> None:
    try:
        _qemu_img(path, "check", "-q", "-U", "-f", format_, str(path))
    except InvalidError as error:
        cause = error.__cause__
        code = cause.exit_code if isinstance(cause, CommandFailedError) else None
        if code not in (_NO_CHECK, _LEAKS_ONLY):
            raise


def _disk(what: object) -> Disk:
    if not isinstance(what, str | os.PathLike) or "\0" in (text := str(os.fspath(what))):
        raise InvalidError(f"cannot use {what!r} as a disk", todo=_FORM)
    if size := _SIZE.fullmatch(text):
        return Disk(_empty(int(size[1]) << _UNITS[size[2]], text), ImageFormat.QCOW2)
    path = Path(text).expanduser().absolute()
    why = ""
    if not text or path.is_dir():
        why = "it is a directory"
    elif _LIKE_A_SIZE.fullmatch(text) and not path.exists():
        why = "it is no size that is known here, and no file"
    elif path.exists() and not path.is_file():
        why = "it is no plain file"
    elif (format_ := detect_format(path)) is ImageFormat.KERNEL:
        why = "it is a kernel"
    if why:
        raise InvalidError(f"cannot use {text!r} as a disk", why=why, todo=_FORM)
    return Disk(path, format_, read_only=format_ is ImageFormat.ISO)


def layers(below: Sequence[Disk], directory: Path) -> tuple[Disk, ...]:
    """A new layer in *directory* over each disk that is written to; the others as they are.

    Raises:
        CoreInfraError: one cannot be made.
    """
    return tuple(
        each if each.read_only else _layer(each, directory / file_name(number))
        for number, each in enumerate(below)
    )


def file_name(number: int) -> str:
    """The name of the file that the disk of this number is written to."""
    return f"disk{number}.qcow2"


def moved(disks: Iterable[Disk], directory: Path) -> tuple[Disk, ...]:
    """The disks with what is written to in another directory."""
    return tuple(
        each if each.read_only else replace(each, path=directory / each.path.name) for each in disks
    )


def copied(
    disks: Sequence[Disk], pid: int, directory: Path, files: contextlib.ExitStack
) -> dict[int, int]:
    """Copy what a process that stands still writes to, for a fork of it.

    Args:
        disks: the disks of the process.
        pid: its id.
        directory: where the copies go.
        files: closes the copies' descriptors.

    Returns:
        The descriptors of the process by which it writes, and those of the copies.
    """
    replacements: dict[int, int] = {}
    with written("a machine's disk", directory):
        for old, new in zip(disks, moved(disks, directory), strict=True):
            if not old.read_only:
                shutil.copyfile(old.path, new.path)
                file = files.enter_context(new.path.open("r+b"))
                replacements |= dict.fromkeys(_descriptors(pid, old.path), file.fileno())
    return replacements


def _descriptors(pid: int, path: Path) -> list[int]:
    """The descriptors by which a process has a file open."""
    wanted, found = path.stat(), []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(link.stat(), wanted):
                found.append(int(link.name))
    return found


def keep(disks: Sequence[Disk], bases: Sequence[Disk], directory: Path) -> None:
    """Copy what has been written to *directory*, as layers over nothing but *bases*.

    Args:
        disks: those of a machine that stands still.
        bases: what they were when the machine booted.
        directory: where the copies go.
    """
    for number, (disk_, base) in enumerate(zip(disks, bases, strict=True)):
        if not disk_.read_only:
            path = directory / file_name(number)
            with written("a machine's disk", directory):
                shutil.copyfile(disk_.path, path)
            # A machine that was cloned writes over another snapshot, which may be gone one day.
            arguments = ("-f", "qcow2", "-F", base.format, "-b", str(base.path), str(path))
            _qemu_img(base.path, "rebase", *arguments)


def kept(bases: Sequence[Disk], directory: Path) -> tuple[Disk, ...]:
    """The disks whose layers :func:`keep` has put into *directory*."""
    return tuple(
        base
        if base.read_only
        else replace(base, path=directory / file_name(number), format=ImageFormat.QCOW2)
        for number, base in enumerate(bases)
    )


def files(disk_: Disk) -> list[Path]:
    """The files that a disk consists of: its own, and those that it is a layer over."""
    if disk_.format == ImageFormat.ISO:
        return [disk_.path]
    status = disk_.path.stat()
    return _chain(disk_.path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)  # asked for with each clone
def _chain(path: Path, _size: int, _modified: int) -> list[Path]:
    said = _qemu_img(path, "info", "-U", "--backing-chain", "--output=json", str(path))
    return [Path(each["filename"]) for each in json.loads(said)]


def _layer(below: Disk, path: Path) -> Disk:
    path.unlink(missing_ok=True)
    arguments = ("-f", "qcow2", "-F", below.format, "-b", str(below.path), str(path))
    _qemu_img(below.path, "create", "-q", *arguments)
    return replace(below, path=path, format=ImageFormat.QCOW2, locked=False)


def _empty(size: int, text: str) -> Path:
    """An empty disk of so many bytes, the same file for all that are as large."""
    if size > _LARGEST:
        raise InvalidError(f"cannot make a disk of {text}", why="64T are the most")
    path = cache_root() / "disks" / f"empty-{size}.qcow2"
    if path.exists():
        return path
    with written("an empty disk", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as directory:
            made = Path(directory) / path.name
            _qemu_img(path, "create", "-q", "-f", "qcow2", str(made), str(size))
            with contextlib.suppress(FileExistsError):  # another process was faster
                path.hardlink_to(made)
    return path


def _qemu_img(about: Path, *arguments: str) -> str:
    if shutil.which("qemu-img") is None:
        raise UnavailableError(
            "cannot make a machine's disk",
            why="qemu-img is not on PATH",
            todo="Install it: apt-get install qemu-utils",
        )
    try:
        return run(["qemu-img", *arguments])
    except CommandFailedError as error:
        raise InvalidError(f"cannot use {about} as a disk", why=error.why) from error
    except OSError as error:
        raise UnavailableError(
            f"cannot make a machine's disk of {about}", why=str(error), todo="Make room."
        ) from error
