"""The disks of disposable machines: each writes to a layer of its own over a read-only base.

The layers are qcow2 files, made by ``qemu-img``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, os, shutil, tempfile
from core_infra.errors import CommandFailedError, InvalidError
from core_infra.vm import _unflushed as unflushed
from core_infra.vm._cache import cache_root, found, writable
from core_infra.vm._free_space import written
from core_infra.vm._hardware import Disk
from core_infra.vm._images.conversion import converted
from core_infra.vm._images.disk_files import DiskFile, disk_files
from core_infra.vm._images.formats import IMAGES, ImageFormat, detect_format
from core_infra.vm._images.qemu_img import qemu_img
from core_infra.vm._names import is_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SIZE = re.compile(r"([1-9]\d*)([MGT])")
_LIKE_A_SIZE = re.compile(r"[-+]?[\d.]+\s*[a-zA-Z]*")
_UNITS = {"M": 20, "G": 30, "T": 40}
_LARGEST = 64 << 40
MOST = 20
"""The most disks that a machine can have: its bus has room for no more."""

_NO_CHECK = 63
_LEAKS_ONLY = 3
_FORM = f"Say a size, such as 500M or 2G, or the path of an image. {IMAGES}"
_CLONEABLE = (ImageFormat.QCOW2, ImageFormat.RAW)
"""The formats with which QEMU can save and load a machine."""


def as_disks(wanted: Iterable[str | os.PathLike[str]]) -> list[Disk]:
    """The disks that a user wants.

    Args:
        wanted: of each, a size in powers of 1024, such as ``500M`` or ``2G``, for an empty disk; or
            the path of an image, which is never written to. An iso is read only.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is neither a size nor an image of a disk.
    """
    if isinstance(wanted, str | os.PathLike):
        raise InvalidError(f"cannot take {os.fspath(wanted)!r} for disks", todo="Say a list.")
    if not isinstance(wanted, Iterable):
        raise InvalidError(f"cannot take {wanted!r} for disks", todo="Give a list.")
    asked = list(wanted)
    if len(asked) > MOST:
        raise InvalidError(f"cannot give a machine {len(asked)} disks", why=f"{MOST} are the most")
    return [_disk(what) for what in asked]


def usable(disk_: Disk, progress: Callable[[str], None]) -> Disk:
    """The disk as machines that use it can be cloned: whole, and converted if necessary.

    Args:
        disk_: the disk of a user.
        progress: called with a line now and then while it is converted.

    Raises:
        InvalidError: it is damaged or was cut, refers to other files of this host, or is encrypted.
        UnavailableError: there is no room to convert it.
    """
    format_ = ImageFormat(disk_.format)
    if disk_.content or format_ is ImageFormat.ISO:
        return disk_
    files = disk_files(disk_.path, format_)
    if all(part.format in _CLONEABLE for part in files):
        examine(disk_)
        return disk_
    path = converted(disk_.path, format_, files, progress)
    return replace(disk_, path=path, format=ImageFormat.QCOW2, content=path.name)


def examine(disk_: Disk) -> None:
    """Check that an image is whole, as far as its format allows.

    Raises:
        InvalidError: it is damaged or was cut, or refers to other files of this host.
    """
    files = disk_files(disk_.path, ImageFormat(disk_.format))
    if disk_.format in (ImageFormat.QCOW2, ImageFormat.VMDK):
        _examine(disk_.path, disk_.format, json.dumps([part.stamp for part in files]))


@functools.lru_cache(maxsize=64)  # once in each run, not for each machine
def _examine(path: Path, format_: str, _stamps: str) -> None:
    try:
        qemu_img(path, "check", "-q", "-U", "-f", format_, str(path))
    except InvalidError as error:
        cause = error.__cause__
        code = cause.exit_code if isinstance(cause, CommandFailedError) else None
        if code not in (_NO_CHECK, _LEAKS_ONLY):
            raise


def _disk(what: object) -> Disk:
    if not is_path(what):
        raise InvalidError(f"cannot use {what!r} as a disk", todo=_FORM)
    text = os.fspath(what)
    if size := _SIZE.fullmatch(text):
        path = _empty(int(size[1]) << _UNITS[size[2]], text)
        return Disk(path, ImageFormat.QCOW2, content=path.name)
    path = Path(text).expanduser().absolute()
    why = ""
    if not text or path.is_dir():
        why = "it is a directory"
    elif _LIKE_A_SIZE.fullmatch(text) and not path.exists():
        why = "it is neither a known size nor a file"
    elif (format_ := detect_format(path)) is ImageFormat.KERNEL:
        why = "it is a kernel"
    if why:
        raise InvalidError(f"cannot use {text!r} as a disk", why=why, todo=_FORM)
    return Disk(path, format_, read_only=format_ is ImageFormat.ISO)


def layers(below: Sequence[Disk], directory: Path, *, volatile: bool = False) -> tuple[Disk, ...]:
    """A new layer in *directory* over each writable disk; the others as they are.

    Args:
        below: the disks.
        directory: where the layers go.
        volatile: they get a log of what was not flushed.

    Raises:
        CoreInfraError: one cannot be made.
    """
    return tuple(
        each if each.read_only else _layer(each, directory / file_name(number), volatile=volatile)
        for number, each in enumerate(below)
    )


def file_name(number: int) -> str:
    """The name of the file that disk *number* writes to."""
    return f"disk{number}.qcow2"


def moved(disks: Iterable[Disk], directory: Path) -> tuple[Disk, ...]:
    """The disks, with the files that they write to in another directory."""
    return tuple(
        each if each.read_only else replace(each, path=directory / each.path.name) for each in disks
    )


def copied(
    disks: Sequence[Disk], pid: int, directory: Path, files: contextlib.ExitStack
) -> dict[int, int]:
    """Copy the files that a stopped process writes to, for a fork of it.

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
                if new.volatile:
                    unflushed.begin(new.path)
                file = files.enter_context(new.path.open("r+b"))
                replacements |= dict.fromkeys(_descriptors(pid, old.path), file.fileno())
    return replacements


def _descriptors(pid: int, path: Path) -> list[int]:
    """The descriptors by which a process has a file open."""
    wanted, numbers = path.stat(), []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(link.stat(), wanted):
                numbers.append(int(link.name))
    return numbers


def save_layers(disks: Sequence[Disk], bases: Sequence[Disk], directory: Path) -> None:
    """Copy what the disks have written to *directory*, as layers over *bases* only.

    Args:
        disks: those of a stopped machine.
        bases: what they were when the machine booted.
        directory: where the copies go.
    """
    for number, (disk_, base) in enumerate(zip(disks, bases, strict=True)):
        if not disk_.read_only:
            path = directory / file_name(number)
            with written("a machine's disk", directory):
                shutil.copyfile(disk_.path, path)
            # A clone's layer is over another snapshot, which may be removed one day.
            arguments = ("-f", "qcow2", "-F", base.format, "-b", str(base.path), str(path))
            qemu_img(base.path, "rebase", *arguments)


def saved_disks(bases: Sequence[Disk], directory: Path) -> tuple[Disk, ...]:
    """The disks whose layers :func:`save_layers` has put into *directory*."""
    return tuple(
        base
        if base.read_only
        else replace(base, path=directory / file_name(number), format=ImageFormat.QCOW2, content="")
        for number, base in enumerate(bases)
    )


def stamps(disk_: Disk) -> list[list[str | int]]:
    """What identifies the content of a disk, which is too large to be read in each run."""
    if disk_.content:
        return [[disk_.content]]
    return [file.stamp for file in _files_of(disk_)]


class Origins:
    """The state of the disks of a clone source when it was made.

    Args:
        disks: what its disks begin as.
        reopened: whether each clone opens them by name, or has the open files of the source.
    """

    def __init__(self, disks: Sequence[Disk], *, reopened: bool) -> None:
        self._files = [file for disk in disks if not disk.content for file in _files_of(disk)]
        self._stamps = [file.stamp for file in self._files]
        self._reopened = reopened

    def check(self) -> None:
        """Raise InvalidError if a clone would have a mixture of old and new content."""
        for file, (_, inode, *content) in zip(self._files, self._stamps, strict=True):
            try:
                _, current, *found = file.stamp
            except FileNotFoundError:
                current, found = None, []
            same_file = current == inode
            if (self._reopened and not same_file) or (same_file and found != content):
                raise InvalidError(
                    f"the disk {file.path} has changed",
                    why="machines that were made of it have the rest of it as it was",
                    todo="Give machines a copy, or change it between runs.",
                )


def _files_of(disk_: Disk) -> list[DiskFile]:
    return disk_files(disk_.path, ImageFormat(disk_.format))


def _layer(below: Disk, path: Path, *, volatile: bool) -> Disk:
    path.unlink(missing_ok=True)
    arguments = ("-f", "qcow2", "-F", below.format, "-b", str(below.path), str(path))
    qemu_img(below.path, "create", "-q", *arguments)
    if volatile:
        unflushed.begin(path)
    return replace(
        below, path=path, format=ImageFormat.QCOW2, locked=False, volatile=volatile, content=""
    )


def _empty(size: int, text: str) -> Path:
    """An empty disk of *size* bytes; the same file for all of that size."""
    if size > _LARGEST:
        raise InvalidError(f"cannot make a disk of {text}", why="64T are the most")
    directory, name = cache_root() / "disks", f"empty-{size}.qcow2"
    if kept := found(directory, name):
        return kept
    directory = writable(directory)
    path = directory / name
    with (
        written("an empty disk", directory),
        tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as work,
    ):
        made = Path(work) / name
        qemu_img(path, "create", "-q", "-f", "qcow2", str(made), str(size))
        made.replace(path)
    return path
