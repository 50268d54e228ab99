"""Makes a disk image bootable as a CD, too, by the few blocks that an ISO 9660 disc must have.

The formats: ECMA-119, and the El Torito specification of 1995 with UEFI's platform ID. A BIOS gets
the whole image as an emulated hard disk; UEFI gets the partition. Neither needs the disc's own file
system, which has no files.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 2048
_VOLUME, _BOOT, _END, _CATALOG, _ROOT, _PATHS, _PATHS_BIG = range(16, 23)  # blocks
_PATHS_SIZE = 10
_DIRECTORY = 2
_BOOTABLE, _HARD_DISK, _NO_EMULATION = 0x88, 4, 0
_BIOS, _UEFI, _LAST_SECTION = 0, 0xEF, 0x91
_TO_THE_END = 0  # sectors of the image for UEFI


def add_disc(disk: Path, partition: int) -> None:
    """Write a disc's descriptors into a disk image.

    Args:
        disk: the image, whose first 46 KiB are free but for the partition table.
        partition: where its EFI system partition begins, in bytes.
    """
    blocks = disk.stat().st_size // _BLOCK
    root = _record(b"\0"), _record(b"\1")
    with disk.open("r+b") as file:
        for block, data in {
            _VOLUME: _volume(blocks, root[0]),
            _BOOT: b"\0CD001\1EL TORITO SPECIFICATION".ljust(71, b"\0") + _le32(_CATALOG),
            _END: b"\xffCD001\1",
            _CATALOG: _catalog(partition // _BLOCK),
            _ROOT: b"".join(root),
            _PATHS: struct.pack("<BBIHxx", 1, 0, _ROOT, 1),
            _PATHS_BIG: struct.pack(">BBIHxx", 1, 0, _ROOT, 1),
        }.items():
            file.seek(block * _BLOCK)
            file.write(data.ljust(_BLOCK, b"\0"))


def _volume(blocks: int, root: bytes) -> bytes:
    """The primary volume descriptor."""
    names = b" " * (4 * 128 + 3 * 37)
    dates = (b"0" * 16 + b"\0") * 4  # not specified
    return b"".join(
        (
            *(b"\1CD001\1\0", b"LINUX".ljust(32), b"BOOT".ljust(32), bytes(8), _both32(blocks)),
            *(bytes(32), _both16(1), _both16(1), _both16(_BLOCK), _both32(_PATHS_SIZE)),
            *(_le32(_PATHS), bytes(4), struct.pack(">I", _PATHS_BIG), bytes(4)),
            *(root, names, dates, b"\1\0"),
        )
    )


def _catalog(partition: int) -> bytes:
    """The boot catalog: the disk for a BIOS, its partition for UEFI."""
    check = struct.pack("<BBH24sHH", 1, _BIOS, 0, b"", 0, 0xAA55)
    total = -sum(struct.unpack("<16H", check)) & 0xFFFF
    check = check[:28] + struct.pack("<H", total) + check[30:]
    disk = struct.pack("<BBHBBHI20x", _BOOTABLE, _HARD_DISK, 0, _UEFI, 0, 1, 0)
    section = struct.pack("<BBH28x", _LAST_SECTION, _UEFI, 1)
    efi = struct.pack("<BBHBBHI20x", _BOOTABLE, _NO_EMULATION, 0, 0, 0, _TO_THE_END, partition)
    return check + disk + section + efi


def _record(name: bytes) -> bytes:
    """The entry of the root directory in itself."""
    date = bytes([80, 1, 1, 0, 0, 0, 0])
    head = bytes(1) + _both32(_ROOT) + _both32(_BLOCK) + date
    body = head + bytes([_DIRECTORY, 0, 0]) + _both16(1) + bytes([len(name)]) + name
    return bytes([len(body) + 1]) + body


def _le32(number: int) -> bytes:
    return struct.pack("<I", number)


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return _le32(number) + struct.pack(">I", number)
