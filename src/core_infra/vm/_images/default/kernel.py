"""Unpacks kernels.

A distribution's kernel unpacks itself at boot. In an emulated guest that costs about a second,
on the host a tenth of it, so the default image holds the unpacked kernel. The layouts are those of
the kernel's own ``Documentation/arch/x86/boot.rst`` and ``Documentation/arch/arm64/booting.rst``
and, for EFI zboot, of ``drivers/firmware/efi/libstub/zboot-header.S``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.compression import decompress, is_compressed
from core_infra.vm._images.magic import KERNEL_HEAD, kernel_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST_BOOT_PROTOCOL = 0x208  # brought the payload's fields
_PT_NOTE = 4
_XEN_PHYS32_ENTRY = (b"Xen\0", 18)
_LIMIT = 1 << 30


def unwrap(kernel: bytes) -> bytes:
    """The kernel in the form that boots fastest and that QEMU accepts.

    An x86 bzImage becomes the ELF file inside it, if this has the note that QEMU needs to start it.
    A packed arm64 kernel is unpacked. A kernel packed by an unknown method is returned unchanged:
    it boots, but more slowly.

    Raises:
        InvalidError: the file is not a kernel, or is damaged.
    """
    kind = kernel_kind(kernel[:KERNEL_HEAD])
    if kind is None:
        raise InvalidError("The file is not a kernel", why="it has none of the known magic numbers")
    if kind == "bzimage":
        return _unwrap_bzimage(kernel)
    if kind == "zboot":
        offset, size = _fields("<II", kernel, 8)
        payload = kernel[offset : offset + size]
        return decompress(payload, _LIMIT) if is_compressed(payload) else kernel
    return decompress(kernel, _LIMIT) if kind == "gzip" else kernel


def has_pvh_entry(vmlinux: bytes) -> bool:
    """Whether an x86 ELF kernel has an entry point for hypervisors (Xen's PHYS32_ENTRY note).

    Raises:
        InvalidError: the file is not a 64-bit ELF file, or is damaged.
    """
    if vmlinux[:5] != b"\x7fELF\x02":
        raise InvalidError("The kernel's payload is not a 64-bit ELF file")
    (table,) = _fields("<Q", vmlinux, 32)
    size, count = _fields("<HH", vmlinux, 54)
    for header in range(table, table + count * size, size or 1):
        (kind,) = _fields("<I", vmlinux, header)
        (offset,) = _fields("<Q", vmlinux, header + 8)
        (length,) = _fields("<Q", vmlinux, header + 32)
        if kind == _PT_NOTE and _XEN_PHYS32_ENTRY in _notes(vmlinux[offset : offset + length]):
            return True
    return False


def _notes(segment: bytes) -> Iterator[tuple[bytes, int]]:
    position = 0
    while position < len(segment):
        name_size, value_size, kind = _fields("<III", segment, position)
        position += 12
        yield segment[position : position + name_size], kind
        position += (name_size + 3 & ~3) + (value_size + 3 & ~3)


def _unwrap_bzimage(kernel: bytes) -> bytes:
    (version,) = _fields("<H", kernel, 0x206)
    if version < _OLDEST_BOOT_PROTOCOL:
        return kernel
    offset, length = _fields("<II", kernel, 0x248)
    start = ((kernel[0x1F1] or 4) + 1) * 512 + offset
    payload = kernel[start : start + length]
    if len(payload) < length:
        raise InvalidError(
            "The kernel is cut off",
            why=f"its header promises {start + length} bytes, it has {len(kernel)}",
        )
    if not is_compressed(payload):
        return kernel
    # Every method's payload ends in the unpacked size: the kernel's own decompressor needs it.
    (size,) = struct.unpack("<I", payload[-4:])
    vmlinux = decompress(payload, min(size, _LIMIT) + 1)
    if len(vmlinux) != size:
        raise InvalidError(
            "The kernel can't be unpacked",
            why=f"it gives {len(vmlinux)} bytes where its last field promises {size}",
        )
    return vmlinux if has_pvh_entry(vmlinux) else kernel


def _fields(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except (struct.error, OverflowError) as error:
        raise InvalidError(
            "The kernel is damaged", why=f"a field at {offset:#x} lies beyond its end"
        ) from error
