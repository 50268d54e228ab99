"""Tells by its first bytes what a file is: a kernel, and of which kind, or something else."""

from __future__ import annotations

import struct

KERNEL_HEAD = 0x250  # as far as a kernel's magic numbers and the header fields we read go
LOOK = 0x8100  # as far as any magic number known here goes

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
    "a cpio archive": (0, b"0707"),
    "a script": (0, b"#!"),
}
_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


def kernel_kind(head: bytes) -> str | None:
    """What kind of kernel a file is, judged by its first ``KERNEL_HEAD`` bytes.

    Returns:
        ``elf``, ``bzimage``, ``arm64``, ``zboot`` (EFI), ``gzip`` (an arm64 kernel may come like
        that), or None if it is no kernel that is known here.
    """
    return next((kind for kind, magic in _KERNELS.items() if _has(head, magic)), None)


def kernel_arch(head: bytes) -> str | None:
    """The architecture of a kernel, as ``uname -m`` says it; None if it is none known here."""
    kind = kernel_kind(head)
    if kind == "elf":
        return _ELF_MACHINES.get(_elf_machine(head))
    return None if kind is None else "x86_64" if kind == "bzimage" else "aarch64"


def describe(head: bytes) -> str:
    """What the file with these first ``LOOK`` bytes seems to be, for a sentence."""
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
