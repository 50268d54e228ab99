"""Writes the archive that Linux unpacks into its first file system: cpio, format ``newc``.

Deterministic (times are 0, order is by name) and without root: device nodes and owners are only
numbers in the archive. The format: ``Documentation/driver-api/early-userspace/buffer-format.rst``.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from core_infra.errors import AlreadyExistsError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRAILER = "TRAILER!!!"
_LARGEST = (1 << 32) - 1


@dataclass(frozen=True)
class Entry:
    """One file, directory, symbolic link or device of an initrd.

    Attributes:
        path: where it goes, absolute or relative to the root.
        mode: type and permissions, as in ``st_mode``.
        data: the contents of a file, the target of a link.
        owner: user and group id.
        device: major and minor number of a device.
    """

    path: str
    mode: int
    data: bytes = b""
    owner: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """The path as the archive has it: relative, without ``.`` and doubled slashes."""
        return str(PurePosixPath("/", self.path)).lstrip("/")


def directory(path: str, permissions: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Entry:
    """A directory. Those above it need not be given."""
    return Entry(path, stat.S_IFDIR | permissions, owner=owner)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file of root's."""
    return Entry(path, stat.S_IFREG | permissions, data)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device."""
    return Entry(path, stat.S_IFCHR | permissions, device=(major, minor))


def cpio(entries: Iterable[Entry]) -> bytes:
    """The archive that holds ``entries`` and the directories above them.

    Raises:
        AlreadyExistsError: two entries have the same path.
        InvalidError: a path or a file that the format can't hold.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in by_name:
            raise AlreadyExistsError(f"The initrd would have two files at /{entry.name}")
        _check(entry)
        by_name[entry.name] = entry
    for name in list(by_name):
        for parent in list(PurePosixPath(name).parents)[:-1]:
            by_name.setdefault(str(parent), directory(str(parent)))
    # By components, so that a directory comes before what is in it.
    names = sorted(by_name, key=lambda name: name.split("/"))
    parts = [_member(by_name[name], number) for number, name in enumerate(names, 1)]
    return b"".join([*parts, _member(Entry(_TRAILER, 0), 0)])


def _check(entry: Entry) -> None:
    if not entry.name or "\0" in entry.name or ".." in entry.name.split("/"):
        raise InvalidError(f"An initrd can't hold the path {entry.path!r}")
    if entry.name == _TRAILER:
        raise InvalidError(f"An initrd can't hold a file named {_TRAILER}: that name ends it")
    if len(entry.data) > _LARGEST:
        raise InvalidError(f"An initrd can't hold /{entry.name}: it is larger than 4 GiB")


def _member(entry: Entry, number: int) -> bytes:
    name = entry.name.encode(errors="surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        number,
        entry.mode,
        *entry.owner,
        links,
        0,  # time of change
        len(entry.data),
        0,  # the device that it lies on, major
        0,  # and minor
        *entry.device,
        len(name),
        0,  # checksum, unused in this format
    )
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
