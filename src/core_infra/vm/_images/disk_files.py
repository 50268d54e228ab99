"""The files of a disk image, read from its headers before QEMU reads them.

The header of an image is written by its guest, or by a stranger: it can name any file of this host
as the image's backing file, and QEMU would open it. So the headers are read here first. An image
may refer only to files in its directory or below, and only if its file name has the extension of
its format, because a guest can write such a header to a raw disk.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.formats import ImageFormat, detect_format

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_QCOW2 = struct.Struct(">4sIQIIQI")
_QCOW2_LENGTH = 72
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE = 1 << 2
_QED_BACKING = 1
_COMPRESSED = 1 << 16
_DIFFERENCING = 4
_HEAD = 1 << 16
_DESCRIPTOR = 1 << 20
_AT_LEAST = 20  # sectors of a descriptor that QEMU reads, even if the header says less
_SECTOR = 512
_ADDRESS = re.compile(r"[^/]*:")
# As lenient as QEMU, which skips white space and line breaks.
_EXTENT = re.compile(rb"(FLAT|SPARSE|VMFS|VMFSSPARSE|SESPARSE|VMFSRAW|VMFSRDM)\s*\"([^\"\r\n\0]+)")
_FLAT = re.compile(rb"RW\s+(\d+)\s*(?:FLAT|VMFS)\s*\"([^\"\r\n\0]+)\"\s*(\d*)")
_PARENT = re.compile(rb"parentFileNameHint..([^\"\0]+)", re.DOTALL)
_NAMES = {
    ImageFormat.QCOW2: (".qcow2", ".qcow"),
    ImageFormat.VMDK: (".vmdk",),
}
_FLATTEN = "Make one file of it: qemu-img convert -O qcow2 {path} NEW.qcow2"


@dataclass(frozen=True)
class DiskFile:
    """A file of a disk image.

    Attributes:
        path: the file.
        format: the format that QEMU reads it as.
    """

    path: Path
    format: ImageFormat

    @property
    def stamp(self) -> list[str | int]:
        """Identifies the file's content without reading it: path, inode, size and time."""
        status = self.path.stat()
        return [str(self.path), status.st_ino, status.st_size, status.st_mtime_ns]


def disk_files(path: Path, format_: ImageFormat, *, alone: bool = False) -> list[DiskFile]:
    """All files of the disk image at *path*, the image itself first.

    Args:
        path: the image.
        format_: its format.
        alone: it must be a single file, such as one that was packed.

    Raises:
        InvalidError: it refers to a file that it must not, is encrypted, or its headers are
            damaged.
        NotFoundError: one of its files is missing.
    """
    found: list[DiskFile] = []
    todo = [DiskFile(path, format_)]
    while todo:
        part = todo.pop(0)
        if part in found:
            raise _cannot(path, f"{part.path} builds on itself")
        found.append(part)
        read = _READERS.get(part.format)
        try:
            references = read(part.path) if read else []
        except (struct.error, UnicodeDecodeError) as error:
            raise _cannot(part.path, f"its {part.format} header is damaged") from error
        except OSError as error:
            raise InvalidError(
                f"the image {part.path} can't be read", why=error.strerror or str(error)
            ) from error
        for name, kind in references:
            if alone:
                raise _cannot(path, f"it is not whole: it refers to {name!r}")
            todo.append(DiskFile(_beside(part, name), kind))
    return found


def check_layer(path: Path) -> None:
    """Raise InvalidError unless a qcow2 layer is whole: its data in itself, and not encrypted.

    What it builds on is not looked at; the caller replaces that.
    """
    try:
        _qcow2(path)
    except (struct.error, UnicodeDecodeError) as error:
        raise _cannot(path, "its qcow2 header is damaged") from error


def qcow_tables(path: Path) -> list[int]:
    """The ends of the tables of a qcow image of version 1: beyond a truncated file's end."""
    with path.open("rb") as file:
        size, cluster, table, first = struct.unpack_from(">24xQBB6xQ", file.read(48))
        entries = _read(file, first, 8 * -(-size >> (cluster + table)))
    whole = entries[: len(entries) // 8 * 8]
    return [at + (8 << table) for (at,) in struct.iter_unpack(">Q", whole) if at]


def is_written_once(path: Path) -> bool:
    """Whether a vmdk cannot be written to, because its grains are compressed."""
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith(b"KDMV") and bool(struct.unpack_from("<I", head, 8)[0] & _COMPRESSED)


def _cannot(path: Path, why: str, todo: str = "") -> InvalidError:
    return InvalidError(f"cannot use the image {path}", why=why, todo=todo.format(path=path))


def _beside(part: DiskFile, name: str) -> Path:
    """The file that an image refers to, if the reference is allowed."""
    image = part.path
    refers = f"it refers to {name!r}"
    if image.suffix.lower() not in _NAMES[part.format]:
        raise _cannot(
            image,
            f"its content says {part.format}, and {refers}, but its name does not say so: a guest "
            "that wrote to it as a raw disk could have done that, to read a file of this host",
            f"If it is yours, name it *{_NAMES[part.format][0]}.",
        )
    if _ADDRESS.match(name):
        raise _cannot(image, f"{refers}, which is not a file", _FLATTEN)
    target = image.parent / name
    homes = (image.parent.resolve(), image.resolve().parent)
    if not any(target.resolve().is_relative_to(home) for home in homes):
        raise _cannot(
            image,
            f"{refers}, which is not in its directory: an image from an unknown source must not "
            "lead to other files of this host",
            _FLATTEN,
        )
    if not target.exists():
        raise NotFoundError(f"cannot use the image {image}", why=f"{refers}, which does not exist")
    if not target.is_file():
        raise _cannot(image, f"{refers}, which is not a regular file")
    return target


def _qcow2(path: Path) -> list[tuple[str, ImageFormat]]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        _, version, offset, size, _, _, encrypted = _QCOW2.unpack_from(head)
        name = _text(_read(file, offset, size)) if offset else ""
    if encrypted:
        raise _cannot(path, "it is encrypted", _FLATTEN)
    length = _QCOW2_LENGTH
    if version > 2:  # noqa: PLR2004 - the version that has the fields
        features, length = struct.unpack_from(">Q20xI", head, _QCOW2_LENGTH)
        if features & _DATA_FILE:
            raise _cannot(path, "its data are in another file", _FLATTEN)
    if not name:
        return []
    kind = _declared(path, head[:offset], length)
    if kind is None:
        base = path.parent / name
        # QEMU would guess the format from content that the base's guest may have written.
        if not base.is_file() or detect_format(base) is not ImageFormat.QCOW2:
            raise _cannot(
                path,
                f"it does not say the format of its backing file {name!r}",
                f"Set it: qemu-img rebase -u -F raw -b {name} {{path}}",
            )
        kind = ImageFormat.QCOW2
    return [(name, kind)]


def _declared(path: Path, head: bytes, at: int) -> ImageFormat | None:
    """The format of a qcow2 image's backing file, by the header's extensions: the last counts."""
    text = ""
    while at + 8 <= len(head):
        kind, size = struct.unpack_from(">II", head, at)
        if not kind:
            break
        if kind == _BACKING_FORMAT:
            text = _text(head[at + 8 : at + 8 + size])
        at += 8 + (size + 7) // 8 * 8
    try:
        return ImageFormat(text) if text else None
    except ValueError:
        raise _cannot(path, f"it builds on an image in the format {text!r}", _FLATTEN) from None


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    """Some bytes of a file; a damaged header can contain any offset and any size."""
    end = os.fstat(file.fileno()).st_size
    if at >= end:
        raise struct.error("beyond the file's end")
    file.seek(at)
    return file.read(min(size, end - at))


def _text(data: bytes) -> str:
    """A name in a header: as in C, it ends where it has a zero."""
    return os.fsdecode(data.partition(b"\0")[0])


def _qcow(path: Path) -> list[tuple[str, ImageFormat]]:
    with path.open("rb") as file:
        head = file.read(48)
    if struct.unpack_from(">I", head, 36)[0]:
        raise _cannot(path, "it is encrypted", _FLATTEN)
    if struct.unpack_from(">Q", head, 8)[0]:
        raise _cannot(path, "it builds on another image", _FLATTEN)
    return []


def _qed(path: Path) -> list[tuple[str, ImageFormat]]:
    with path.open("rb") as file:
        head = file.read(64)
    if struct.unpack_from("<Q", head, 16)[0] & _QED_BACKING:
        raise _cannot(path, "it builds on another image", _FLATTEN)
    return []


def _vhd(path: Path) -> list[tuple[str, ImageFormat]]:
    with path.open("rb") as file:
        head = file.read(_SECTOR)
        file.seek(max(0, file.seek(0, 2) - _SECTOR))
        tail = file.read()
    if not tail.startswith(b"conectix"):
        raise _cannot(path, "it was cut: its last sector is not the footer of a vhd")
    if struct.unpack_from(">I", tail, 60)[0] == _DIFFERENCING or (
        head.startswith(b"conectix") and struct.unpack_from(">I", head, 60)[0] == _DIFFERENCING
    ):
        raise _cannot(path, "it builds on another image", "Merge it with its parent.")
    return []


def _vmdk(path: Path) -> list[tuple[str, ImageFormat]]:
    with path.open("rb") as file:
        descriptor = file.read(_DESCRIPTOR)
        refers = True
        if descriptor.startswith(b"KDMV"):
            capacity, _, offset, size = struct.unpack_from("<QQQQ", descriptor, 12)
            # Where it has content of its own, the name in its descriptor is its own, or was.
            refers = not capacity
            size = min(_DESCRIPTOR, max(_AT_LEAST, size) * _SECTOR)
            descriptor = _read(file, offset * _SECTOR, size) if offset else b""
        elif descriptor.startswith(b"COWD"):
            return []
    if found := _PARENT.search(descriptor):
        name = found[1][:200].decode(errors="replace")
        raise _cannot(path, f"it builds on another image, {name!r}", _FLATTEN)
    if not refers:
        return []
    for sectors, name, first in _FLAT.findall(descriptor):
        extent = path.parent / os.fsdecode(name)
        needed = (int(sectors) + int(first or 0)) * _SECTOR
        if extent.is_file() and extent.stat().st_size < needed:
            raise _cannot(path, f"{extent.name} was cut: it has less than {needed} bytes")
    return [
        (os.fsdecode(name), ImageFormat.RAW if kind in (b"FLAT", b"VMFS") else ImageFormat.VMDK)
        for kind, name in _EXTENT.findall(descriptor)
    ]


_READERS: dict[ImageFormat, Callable[[Path], list[tuple[str, ImageFormat]]]] = {
    ImageFormat.QCOW2: _qcow2,
    ImageFormat.QCOW: _qcow,
    ImageFormat.QED: _qed,
    ImageFormat.VHD: _vhd,
    ImageFormat.VMDK: _vmdk,
}
