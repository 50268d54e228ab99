"""Detects the format of an image by its content."""

from __future__ import annotations

import enum
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.compression import is_packed_file, unpacked
from core_infra.vm._images.magic import LOOK, describe, holds_disk, kernel_kind

if TYPE_CHECKING:
    import os

_SECTOR = 512


class ImageFormat(enum.StrEnum):
    """The format of an image. Disks have QEMU's names."""

    ISO = "iso"
    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"
    VDI = "vdi"
    VHD = "vpc"
    VHDX = "vhdx"
    QCOW = "qcow"
    QED = "qed"
    PARALLELS = "parallels"
    PACKED = "compressed"
    KERNEL = "kernel+initrd"


_CONTENT: tuple[tuple[ImageFormat, int, bytes], ...] = (
    (ImageFormat.QCOW, 0, b"QFI\xfb\0\0\0\1"),
    (ImageFormat.QCOW2, 0, b"QFI\xfb"),
    (ImageFormat.VMDK, 0, b"KDMV"),
    (ImageFormat.VMDK, 0, b"COWD"),
    (ImageFormat.VMDK, 0, b"# Disk DescriptorFile"),
    (ImageFormat.VDI, 0x40, b"\x7f\x10\xda\xbe"),
    (ImageFormat.VHD, 0, b"conectix"),
    (ImageFormat.VHDX, 0, b"vhdxfile"),
    (ImageFormat.QED, 0, b"QED\0"),
    (ImageFormat.PARALLELS, 0, b"WithoutFreeSpace"),
    (ImageFormat.PARALLELS, 0, b"WithouFreSpacExt"),
    # A disc that boots from a stick as well has a boot sector, too.
    (ImageFormat.ISO, 0x8001, b"CD001"),
    (ImageFormat.ISO, 0x8001, b"NSR0"),
)
_EXTENSIONS = {
    ".iso": ImageFormat.ISO,
    ".qcow2": ImageFormat.QCOW2,
    ".vmdk": ImageFormat.VMDK,
    ".vdi": ImageFormat.VDI,
    ".vhd": ImageFormat.VHD,
    ".vpc": ImageFormat.VHD,
    ".vhdx": ImageFormat.VHDX,
    ".qcow": ImageFormat.QCOW,
    ".qed": ImageFormat.QED,
    ".raw": ImageFormat.RAW,
    ".img": ImageFormat.RAW,
}
IMAGES = (
    "Images are qcow2, raw (also a file system on its own), iso, vmdk, vdi, vhd, vhdx, qcow, qed "
    "and parallels, each also packed by xz, gzip, zstd or bzip2."
)
_SET_SUFFIXES = ("-kernel", "-initrd.img", "-cmdline")
_FOOTER_SIZE = 512
_FIXED = 2
_KINDS = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device: copy it to a file",
    stat.S_IFCHR: "a character device",
}


def detect_format(path: str | os.PathLike[str]) -> ImageFormat:
    """The format of an image, by its content. The name counts only if the content is ambiguous.

    Raises:
        NotFoundError: *path* does not exist.
        InvalidError: it is not bootable, or cannot be read.
    """
    given = Path(path).expanduser().absolute()
    if given.is_dir() or Path(f"{given}-kernel").exists():
        return ImageFormat.KERNEL
    head, size = _head(given)
    found = _by_magic(head)
    if found in (None, ImageFormat.RAW) and _is_fixed_vhd(given):
        return ImageFormat.VHD
    if found is None and given.name.endswith(_SET_SUFFIXES):
        return ImageFormat.KERNEL
    if found is None and is_packed_file(head):
        return _packed(given, head)
    return found or _by_name(given, head, size)


def _by_magic(head: bytes) -> ImageFormat | None:
    """The format that the first bytes prove."""
    for format_, offset, magic in _CONTENT:
        if head.startswith(magic, offset):
            return format_
    if kernel_kind(head) not in (None, "gzip"):  # a bzImage has a boot sector, too
        return ImageFormat.KERNEL
    return ImageFormat.RAW if holds_disk(head) else None


def _packed(path: Path, head: bytes) -> ImageFormat:
    """The format of a packed file, by its unpacked content."""
    inside = _unpacked_head(path)
    within = _by_magic(inside)
    if within is ImageFormat.KERNEL and kernel_kind(head):
        return within  # some arm64 kernels are packed by gzip
    if within not in (None, ImageFormat.KERNEL) or (inside and not any(inside)):
        return ImageFormat.PACKED
    packed = "a gzip archive" if kernel_kind(head) else describe(head)
    what = describe(inside) if inside else "truncated data"
    raise _unknown(path, f"it is {packed}, which contains {what}")


def _by_name(path: Path, head: bytes, size: int) -> ImageFormat:
    """The format of a file with ambiguous content, by its name."""
    named = _EXTENSIONS.get(path.suffix.lower())
    why = f"it is {describe(head)}, {size} bytes"
    # Only zeros are an empty disk, unless the name says otherwise.
    if named is ImageFormat.RAW or (named is None and not any(head)):
        if size % _SECTOR == 0:
            return ImageFormat.RAW
        why += f", which is not a multiple of {_SECTOR}"
    elif named is not None:
        why += f", and not {named}, although its name says so"
    raise _unknown(path, why)


def _unknown(path: Path, why: str) -> InvalidError:
    return InvalidError(
        f"cannot detect the format of the image {path}",
        why=why,
        todo=f"{IMAGES} A kernel is NAME-kernel, with NAME-initrd.img.",
    )


def _is_fixed_vhd(path: Path) -> bool:
    """Whether a disk that begins as a raw one ends as a VHD of fixed size does."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _FOOTER_SIZE))
        footer = file.read()
    if len(footer) != _FOOTER_SIZE or not footer.startswith(b"conectix"):
        return False
    kind, checksum = struct.unpack_from(">II", footer, 60)
    return bool(kind == _FIXED and checksum == ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF)


def _unpacked_head(path: Path) -> bytes:
    try:
        return next(unpacked(path, LOOK), b"")
    except InvalidError:
        return b""
    except OSError as error:
        raise _unreadable(path, error) from error


def _head(path: Path) -> tuple[bytes, int]:
    try:
        mode = path.stat().st_mode  # before it is opened: opening a fifo would block
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise InvalidError(f"the image {path} must be a regular file", why=f"it is {kind}")
        with path.open("rb") as file:
            head = file.read(LOOK)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no image {path}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head:
        raise InvalidError(f"the image {path} is empty", why="it has 0 bytes")
    return head, size


def _unreadable(path: Path, error: OSError) -> InvalidError:
    return InvalidError(f"the image {path} can't be read", why=error.strerror or str(error))
