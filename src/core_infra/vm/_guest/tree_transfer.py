"""Directories between host and guest: a tar stream through the guest's own ``tar``.

So links, modes and empty directories arrive. What comes out of a guest is not trusted: the host
unpacks it itself, and nothing is ever written outside the target or through a link. (``tarfile``'s
own filters do that too, but Debian 12's Python has none yet.)
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from core_infra.errors import InvalidError
from core_infra.vm._guest import copy_scripts
from core_infra.vm._guest.atomic_write import write_sparsely

if TYPE_CHECKING:
    from core_infra.vm._guest.process import GuestProcess

_BUFFER = 256 * 1024


class UnsafeTreeError(InvalidError):
    """A tree has a member that must not, or cannot, be made on the other side.

    Attributes:
        member: its path in the tree.
    """


def unpack_command(target: str, source: Path, *, name: str = "") -> list[str]:
    """The guest's command that unpacks a tree from its standard input to the directory *target*.

    Args:
        target: a directory; if there is one, the tree's content goes there.
        source: the tree on this host.
        name: if *target* is there, the directory in it that the tree becomes.
    """
    status = source.stat()
    mode, changed = f"{stat.S_IMODE(status.st_mode) & 0o777:o}", f"{status.st_mtime:.9f}"
    return ["/bin/sh", "-c", copy_scripts.TREE, "sh", target, name, mode, changed]


def pack_command(source: str) -> str:
    """The guest's command that writes the tree *source* to its standard output."""
    return f"tar -c -f - -C {shlex.quote(source)} ."


def send_tree(process: GuestProcess, source: Path) -> None:
    """Write the content of a local directory to the input of an unpacking command.

    If the command ends before it has read all, because it has failed, the rest is not sent.

    Raises:
        UnsafeTreeError: an entry is neither a file, a directory nor a link; nothing was written.
        OSError: the directory cannot be read.
    """
    entries = _entries(source)
    with (
        contextlib.suppress(_EndedEarlyError),
        io.BufferedWriter(_InputFile(process), _BUFFER) as file,
        # Of the forms with long names, busybox's tar reads the GNU one.
        tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path, name in entries:
            archive.add(path, arcname=name, recursive=False, filter=_as_root)
        archive.addfile(tarfile.TarInfo(copy_scripts.COMPLETE))
    process.close_stdin()


def receive_tree(process: GuestProcess, target: Path) -> bytes:
    """Unpack the output of a packing command into *target*; returns its standard error.

    Raises:
        UnsafeTreeError: a member would be written outside *target* or through a link, or is
            neither a file, a directory nor a link. What came before it has been unpacked: so
            *target* must be a temporary directory, as of :mod:`~.atomic_write`.
    """
    output = _OutputFile(process)
    target.mkdir(parents=True, exist_ok=True)
    with io.BufferedReader(output, _BUFFER) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as archive:
                _unpack(archive, target)
        except tarfile.ReadError:
            if not output.errors:  # else the guest's own message says more
                raise
        while file.read(_BUFFER):
            pass
    return bytes(output.errors)


def _unpack(archive: tarfile.TarFile, target: Path) -> None:
    directories: list[tuple[Path, tarfile.TarInfo]] = []
    tree = _Tree(target)
    for member in archive:
        path = tree.place(member.name)
        if member.isdir():
            path.mkdir(exist_ok=True)
            directories.append((path, member))
            continue
        if path.is_symlink() or path.is_file():
            path.unlink()
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            path.hardlink_to(tree.linked(member))
        elif member.isreg():
            _write(archive, member, path)
        else:
            raise UnsafeTreeError(
                f"cannot make {member.name!r} on this host",
                why="it is a device, a pipe or a socket; a tree has files, directories, links",
                member=member.name,
            )
    for path, member in reversed(directories):  # a read-only directory must be filled first
        path.chmod(member.mode & 0o777)
        os.utime(path, (member.mtime, member.mtime))


class _Tree:
    """Where members go: below a directory, with no link on the way."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._checked: set[tuple[str, ...]] = set()  # directories, which nothing here replaces

    def place(self, name: str) -> Path:
        """The path of a member."""
        parts = tuple(part for part in PurePosixPath(name).parts if part != ".")
        if name.startswith("/") or ".." in parts:
            raise UnsafeTreeError(
                f"cannot write {name!r} below {self._target}", why="it leads outside", member=name
            )
        self._check(parts[:-1], name)
        return self._target.joinpath(*parts)

    def linked(self, member: tarfile.TarInfo) -> Path:
        """The file that a hard link is a second name of."""
        source = self.place(member.linkname)
        if source.is_symlink() or not source.is_file():
            raise UnsafeTreeError(
                f"cannot link {member.name!r} to {member.linkname!r}",
                why="that is not a file of the same tree",
                member=member.name,
            )
        return source

    def _check(self, above: tuple[str, ...], name: str) -> None:
        known = len(above)
        while known and above[:known] not in self._checked:
            known -= 1
        for end in range(known + 1, len(above) + 1):
            path = self._target.joinpath(*above[:end])
            if path.is_symlink():
                raise UnsafeTreeError(
                    f"cannot write {name!r} below {self._target}",
                    why=f"{path} is a symbolic link",
                    member=name,
                )
            if path.is_dir():
                self._checked.add(above[:end])


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None  # noqa: S101 - a regular file has content
    with source, path.open("xb") as file:
        write_sparsely(iter(lambda: source.read(_BUFFER), b""), file)
        os.fchmod(file.fileno(), member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _entries(source: Path) -> list[tuple[str, str]]:
    """The paths of all entries and their names in the archive, directories before their entries."""
    found: list[tuple[str, str]] = []
    todo = [(os.fspath(source), "")]
    while todo:  # not by recursion: a tree may be deep
        path, name = todo.pop()
        if name:
            found.append((path, name))
        if name and not stat.S_ISDIR(os.lstat(path).st_mode):
            continue
        with os.scandir(path) as entries:
            inner = sorted(entries, key=lambda entry: entry.name, reverse=True)
        for entry in inner:
            below = f"{name}/{entry.name}" if name else entry.name
            if not (entry.is_symlink() or entry.is_file(follow_symlinks=False) or entry.is_dir()):
                raise UnsafeTreeError(
                    f"cannot copy {entry.path!r}",
                    why="it is a device, a pipe or a socket; a tree has files, directories, links",
                    member=below,
                )
            todo.append((entry.path, below))
    return found


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # The host's user ids mean nothing in the guest.
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


class _EndedEarlyError(Exception):
    """The command that reads a tree has ended."""


class _InputFile(io.RawIOBase):
    """The standard input of a guest's process as a file to write to."""

    def __init__(self, process: GuestProcess) -> None:
        self._process = process

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(cast("bytes", data))
        if not self._process.is_running():
            raise _EndedEarlyError
        self._process.send_input(piece)
        return len(piece)


class _OutputFile(io.RawIOBase):
    """The standard output of a guest's process as a file to read from."""

    def __init__(self, process: GuestProcess) -> None:
        self.errors = bytearray()
        self._chunks = process.chunks()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._rest:
            stream, data = next(self._chunks, ("", b""))
            if not stream:
                return 0
            if stream == "stderr":
                self.errors += data
            else:
                self._rest = memoryview(data)
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
