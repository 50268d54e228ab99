"""Any image that a user brings: what its content says it is, and what a machine needs of it."""

from __future__ import annotations

import enum
import os
import platform
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm.hypervisors.hypervisor import Disk
from core_infra.vm.images.image import CONSOLES, Image, load_image
from core_infra.vm.images.magic import LOOK, describe, kernel_kind

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
        path: a file (iso, qcow2, vmdk, raw), a description (image.yaml, or a directory with one:
            :mod:`~core_infra.vm.images.definition`), or what :func:`~.image.load_image` takes: what
            the names of a kernel and its initrd begin with, one of them, or their directory.
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
        found = import_module("core_infra.vm.images.definition").read_definition(described, arch)
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
