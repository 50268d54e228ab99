"""Any image that a user brings: what its content says it is, and what a machine needs of it."""

from __future__ import annotations

import enum
import os
import platform
import stat
import struct
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._hypervisors.disposable import Disk
from core_infra.vm._images.compression import is_packed_file, unpacked
from core_infra.vm._images.image import CONSOLES, Image, load_image
from core_infra.vm._images.magic import LOOK, describe, holds_disk, kernel_kind

_ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}
_SECTOR = 512

DESCRIPTION = "image.yaml"
"""The file in a directory that describes the image there."""

DESCRIPTIONS = (".yaml", ".yml")
"""What names of such files end in."""


class ImageFormat(enum.StrEnum):
    """What an image is, by the names that QEMU has for disks."""

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
_FOOTER_SIZE = 512
_FIXED = 2
_KINDS = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device: copy it to a file",
    stat.S_IFCHR: "a character device",
}


@dataclass(frozen=True)
class DiskImage:
    """A disk, or a disc, that a machine boots from.

    Attributes:
        path: its file; never written to.
        format: what it is, by its content.
        arch: the machine's architecture as ``uname -m`` says it.
        name: for people to tell it from others.
        has_agent: whether core-infra's agent runs in it: nobody knows.
        memory: MiB of a machine that asks for no other; None is a default.
        cpus: virtual processors of one; None is one.
        cpu: the processor of one, as QEMU's ``-cpu`` takes it; None is one that suits it.
    """

    path: Path
    format: ImageFormat
    arch: str
    name: str
    has_agent: bool = False
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None


Bootable = Image | DiskImage
"""Whatever a machine boots."""


def open_image(path: str | os.PathLike[str], *, arch: str | None = None) -> Bootable:
    """The image at *path*, whatever it is.

    Args:
        path: a disk in any format that is known here, a description (image.yaml, or a directory
            with one: :mod:`~core_infra.vm._images.image_yaml`), or what :func:`~.image.load_image`
            takes: what the names of a kernel and its initrd begin with, one of them, or their
            directory.
        arch: of a disk, which does not show it: by default this host's. Any other image must be
            for it.

    Raises:
        NotFoundError: there is no such file, or a part of a set is missing.
        InvalidError: it is nothing that boots, or cannot be read.
    """
    if not os.fspath(path):
        raise InvalidError("there is no image with an empty path")
    given = Path(path).expanduser().absolute()
    arch = None if arch is None else checked_arch(arch)
    described = given if given.suffix in DESCRIPTIONS and given.is_file() else given / DESCRIPTION
    found: Bootable
    if described.is_file():
        # Not imported above: it describes disks, too, by what is here.
        found = import_module("core_infra.vm._images.image_yaml").read_definition(described, arch)
    elif (format_ := detect_format(given)) is ImageFormat.KERNEL:
        found = load_image(given)
    else:
        found = DiskImage(given, format_, arch or host_arch(), given.name)
    return for_arch(found, arch)


def for_arch(image: Bootable, arch: str | None) -> Bootable:
    """An image, if it is for *arch*; a disk may be for any, and becomes one for that.

    Raises:
        InvalidError: the image is for another.
    """
    if arch is None or image.arch == arch:
        return image
    if isinstance(image, DiskImage):
        return replace(image, arch=arch)
    raise InvalidError(
        f"cannot boot {image.name} on a machine for {arch}", why=f"its kernel is for {image.arch}"
    )


def checked_arch(arch: object) -> str:
    """An architecture as Linux's ``uname -m`` says it, also if Debian's name of it is given.

    Raises:
        InvalidError: there are no machines for it.
    """
    found = _ARCHES.get(arch, arch) if isinstance(arch, str) else arch
    if not isinstance(found, str) or found not in CONSOLES:
        raise InvalidError(
            f"there are no machines for the architecture {arch!r}",
            todo=f"Choose one of {', '.join(CONSOLES)}.",
        )
    return found


def disk_of(image: Bootable) -> Disk | None:
    """The disk that belongs to an image, never written to; None if it has none.

    Raises:
        CoreInfraError: it is no disk.
    """
    if isinstance(image, DiskImage):
        disc = image.format is ImageFormat.ISO
        return Disk(image.path, image.format, read_only=disc, boot=True, disc=disc)
    if image.disk is None:
        return None
    format_ = detect_format(image.disk)
    if format_ in (ImageFormat.KERNEL, ImageFormat.ISO):
        raise InvalidError(f"cannot use {image.disk} as a disk", why=f"it is {format_}")
    return Disk(image.disk, format_)


def detect_format(path: str | os.PathLike[str]) -> ImageFormat:
    """What an image is, by its content; by its name only where the content may be anything.

    Raises:
        NotFoundError: there is nothing at *path*.
        InvalidError: it is nothing that boots, or cannot be read.
    """
    given = Path(path).expanduser().absolute()
    if given.is_dir() or Path(f"{given}-kernel").exists():
        return ImageFormat.KERNEL
    head, size = _head(given)
    found = _known(head)
    if found in (None, ImageFormat.RAW) and _is_fixed_vhd(given):
        return ImageFormat.VHD
    if found is None and given.name.endswith(("-kernel", "-initrd.img", "-cmdline")):
        return ImageFormat.KERNEL
    if found is None and is_packed_file(head):
        return _packed(given, head)
    return found or _named(given, head, size)


def host_arch() -> str:
    """This host's architecture, as Linux's ``uname -m`` says it."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def _known(head: bytes) -> ImageFormat | None:
    """What the first bytes tell for certain."""
    for format_, offset, magic in _CONTENT:
        if head.startswith(magic, offset):
            return format_
    if kernel_kind(head) not in (None, "gzip"):  # a bzImage has a boot sector, too
        return ImageFormat.KERNEL
    return ImageFormat.RAW if holds_disk(head) else None


def _packed(path: Path, head: bytes) -> ImageFormat:
    """What a packed file is, by what is packed."""
    inside = _unpacked_head(path)
    within = _known(inside)
    if within is ImageFormat.KERNEL and kernel_kind(head):
        return within  # some arm64 kernels are packed by gzip
    if within not in (None, ImageFormat.KERNEL) or (inside and not any(inside)):
        return ImageFormat.PACKED
    packed = "a gzip archive" if kernel_kind(head) else describe(head)
    what = describe(inside) if inside else "nothing whole"
    raise _nothing(path, f"it is {packed}, and within is {what}")


def _named(path: Path, head: bytes, size: int) -> ImageFormat:
    """What a file is whose content may be anything, by its name."""
    named = _EXTENSIONS.get(path.suffix.lower())
    why = f"it is {describe(head)}, {size} bytes"
    # Nothing at all is an empty disk, whatever it is called.
    if named is ImageFormat.RAW or (named is None and not any(head)):
        if size % _SECTOR == 0:
            return ImageFormat.RAW
        why += f", which is no multiple of {_SECTOR}"
    elif named is not None:
        why += f", and no {named} whatever its name says"
    raise _nothing(path, why)


def _nothing(path: Path, why: str) -> InvalidError:
    return InvalidError(
        f"cannot tell what kind of image {path} is",
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
        mode = path.stat().st_mode  # before it is opened: a fifo would make us wait
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise InvalidError(f"the image {path} is no plain file", why=f"it is {kind}")
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
