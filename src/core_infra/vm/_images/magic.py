"""Identifies a file by its first bytes: a kernel, and of which kind, or something else."""

from __future__ import annotations

import struct

KERNEL_HEAD = 0x250  # as far as a kernel's magic numbers and the header fields we read go
LOOK = 0x10100  # as far as any magic number known here goes

_KERNELS = {
    "elf": (0, b"\x7fELF"),
    "bzimage": (0x202, b"HdrS"),
    "zboot": (4, b"zimg"),
    "arm64": (0x38, b"ARM\x64"),
    "gzip": (0, b"\x1f\x8b"),
}
_OTHERS = {
    "a qcow2 disk": (0, b"QFI\xfb"),
    "an ISO 9660 disc": (0x8001, b"CD001"),
    "a disk with a boot sector": (510, b"\x55\xaa"),
    "an xz archive": (0, b"\xfd7zXZ"),
    "a zstd archive": (0, b"\x28\xb5\x2f\xfd"),
    "a bzip2 archive": (0, b"BZh"),
    "a cpio archive": (0, b"0707"),
    "a tar archive, as an OVA is: unpack it and give the disk within": (257, b"ustar"),
    "a zip archive": (0, b"PK\x03\x04"),
    "a 7z archive": (0, b"7z\xbc\xaf\x27\x1c"),
    "a script": (0, b"#!"),
}
# How a disk without a boot sector may begin: with a partition table, or a file system on its own.
# The offsets are those of the superblocks, as in libblkid.
_CONTENTS = (
    (512, b"EFI PART"),  # GPT, with sectors of 512 bytes and of 4 KiB
    (4096, b"EFI PART"),
    (0x438, b"\x53\xef"),  # ext2, ext3, ext4
    (0, b"XFSB"),
    (0x10040, b"_BHRfS_M"),  # btrfs
    (0, b"hsqs"),  # squashfs
    (0x400, b"\xe2\xe1\xf5\xe0"),  # erofs
    (0x400, b"\x10\x20\xf5\xf2"),  # f2fs
    (0x1018, b"\xc6\x85\x73\xf6"),  # bcachefs
    (0x10034, b"ReIsEr"),
    (0x8000, b"JFS1"),
    (0x410, b"\x7f\x13"),  # minix, names of 14 and of 30 bytes
    (0x410, b"\x8f\x13"),
    (0x400, b"H+\0"),  # HFS+
    (0x400, b"HX\0"),
    (0, b"\x45\x3d\xcd\x28"),  # cramfs
    (0, b"-rom1fs-"),
    (0, b"LUKS\xba\xbe"),
    (0x218, b"LVM2 001"),
    (0xFF6, b"SWAPSPACE2"),
    (0x1000, b"\xfc\x4e\x2b\xa9"),  # Linux RAID, version 1.2 and 1.1
    (0, b"\xfc\x4e\x2b\xa9"),
)
_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


def kernel_kind(head: bytes) -> str | None:
    """The kind of kernel that a file is, by its first ``KERNEL_HEAD`` bytes.

    Returns:
        ``elf``, ``bzimage``, ``arm64``, ``zboot`` (EFI), ``gzip`` (an arm64 kernel may be packed
        so), or None if it is not a known kind of kernel.
    """
    return next((kind for kind, magic in _KERNELS.items() if _has(head, magic)), None)


def kernel_arch(head: bytes) -> str | None:
    """The architecture of a kernel, as ``uname -m`` prints it; None if it is unknown."""
    kind = kernel_kind(head)
    if kind == "elf":
        return _ELF_MACHINES.get(_elf_machine(head))
    return None if kind is None else "x86_64" if kind == "bzimage" else "aarch64"


def holds_disk(head: bytes) -> bool:
    """Whether the first ``LOOK`` bytes are a disk's: partitions, or a file system."""
    return any(_has(head, magic) for magic in ((510, b"\x55\xaa"), *_CONTENTS))


def describe(head: bytes) -> str:
    """What a file with these first ``LOOK`` bytes seems to be, to be put into a sentence."""
    kind = kernel_kind(head)
    if kind == "elf":
        number = _elf_machine(head)
        return f"an ELF file for {_ELF_MACHINES.get(number, f'machine number {number}')}"
    if kind is not None:
        return f"something that begins like a kernel ({kind})"
    for name, magic in _OTHERS.items():
        if _has(head, magic):
            return name
    return f"something unknown that begins with {head[:8].hex(' ')}"


def _has(head: bytes, magic: tuple[int, bytes]) -> bool:
    offset, wanted = magic
    return head.startswith(wanted, offset)


def _elf_machine(head: bytes) -> int:
    (number,) = struct.unpack_from("<H", head.ljust(20, b"\0"), 18)
    return int(number)
