"""Any image that a user brings: what its content says it is, and what a machine needs of it."""

from __future__ import annotations

import enum
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm.images.image import Image, load_image
from core_infra.vm.images.magic import LOOK, describe, kernel_kind

_ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}
_SECTOR = 512


class ImageFormat(enum.StrEnum):
    """What an image is, by the names that QEMU has for disks."""

    ISO = "iso"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    RAW = "raw"
    KERNEL = "kernel+initrd"


# In this order: a disc that boots from a stick as well has a boot sector, too.
_CONTENT: tuple[tuple[ImageFormat, int, bytes], ...] = (
    (ImageFormat.QCOW2, 0, b"QFI\xfb"),
    (ImageFormat.VMDK, 0, b"KDMV"),
    (ImageFormat.VMDK, 0, b"COWD"),
    (ImageFormat.VMDK, 0, b"# Disk DescriptorFile"),
    (ImageFormat.ISO, 0x8001, b"CD001"),
    (ImageFormat.ISO, 0x8001, b"NSR0"),
    (ImageFormat.RAW, 510, b"\x55\xaa"),
)
_EXTENSIONS = {
    ".iso": ImageFormat.ISO,
    ".qcow2": ImageFormat.QCOW2,
    ".vmdk": ImageFormat.VMDK,
    ".raw": ImageFormat.RAW,
    ".img": ImageFormat.RAW,
}


@dataclass(frozen=True)
class DiskImage:
    """A disk, or a disc, that a machine boots from.

    Attributes:
        path: its file; never written to.
        format: iso, qcow2, vmdk or raw.
        arch: the machine's architecture as ``uname -m`` says it.
        name: for people to tell it from others.
        has_agent: whether core-infra's agent runs in it: nobody knows.
    """

    path: Path
    format: ImageFormat
    arch: str
    name: str
    has_agent: bool = False


Bootable = Image | DiskImage
"""Whatever a machine boots."""


def open_image(path: str | os.PathLike[str], *, arch: str | None = None) -> Bootable:
    """The image at *path*, whatever it is.

    Args:
        path: a file (iso, qcow2, vmdk, raw), or what :func:`~.image.load_image` takes: what the
            names of a kernel and its initrd begin with, one of them, or their directory.
        arch: of a disk, which does not tell; by default this host's.

    Raises:
        NotFoundError: there is no such file, or a part of a set is missing.
        InvalidError: it is nothing that boots, or cannot be read.
    """
    if not os.fspath(path):
        raise InvalidError("there is no image with an empty path")
    given = Path(path).expanduser().absolute()
    format_ = detect_format(given)
    if format_ is ImageFormat.KERNEL:
        return load_image(given)
    return DiskImage(given, format_, arch or host_arch(), given.name)


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
    for format_, offset, magic in _CONTENT:
        if head.startswith(magic, offset):
            return format_
    if kernel_kind(head) or given.name.endswith(("-kernel", "-initrd.img", "-cmdline")):
        return ImageFormat.KERNEL
    named = _EXTENSIONS.get(given.suffix.lower())
    if named is ImageFormat.RAW and size % _SECTOR == 0:
        return named  # a disk without a boot sector: some firmware boots it all the same
    why = f"it is {describe(head)}, {size} bytes"
    if named is ImageFormat.RAW:
        why += f", which is no multiple of {_SECTOR}"
    elif named is not None:
        why += f", and no {named} whatever its name says"
    raise InvalidError(
        f"cannot tell what kind of image {given} is",
        why=why,
        todo="Images are iso, qcow2, vmdk, raw, or NAME-kernel with NAME-initrd.img.",
    )


def host_arch() -> str:
    """This host's architecture, as Linux's ``uname -m`` says it."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def _head(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            head = file.read(LOOK)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no image {path}") from error
    except OSError as error:
        raise InvalidError(
            f"the image {path} can't be read", why=error.strerror or str(error)
        ) from error
    if not head:
        raise InvalidError(f"the image {path} is empty", why="it has 0 bytes")
    return head, size
