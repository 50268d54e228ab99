"""A bootable image: what a hypervisor needs to know about it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - pydantic evaluates the annotations

from core_infra._host import SHORT_NAMES
from core_infra.errors import InvalidError
from core_infra.vm._guest.run_config import RunConfig  # noqa: TC001 - read by dataclasses
from core_infra.vm._hardware import Disk
from core_infra.vm._images.formats import ImageFormat, detect_format

CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
"""The serial line of each architecture that a guest may have."""

_ARCHES = {name: arch for arch, name in SHORT_NAMES.items()}

OWN_INIT = "core_infra.init="
"""What the command line of a machine has that starts the image's own first process."""


@dataclass(frozen=True)
class Image:
    """A bootable image: a kernel and the file system that it starts with.

    Attributes:
        kernel: the kernel's file.
        initrd: the file of the initial file system; None if the kernel contains one.
        cmdline: the kernel's command line.
        arch: the machine's architecture as ``uname -m`` prints it: ``x86_64`` or ``aarch64``.
        name: the name that messages show.
        has_agent: whether core-infra's agent runs in it.
        console: the guest's name of the serial line that its kernel prints to, such as ``ttyS0``.
        disk: the file of its first disk, never written to; None if it has none.
        memory: MiB of a machine; None is the default.
        cpus: virtual processors of a machine; None is one.
        cpu: the processor of a machine, as QEMU's ``-cpu`` takes it; None chooses a suitable one.
        run: how its programs are run; None if the image does not say.
        has_virtiofs: whether its kernel is the default image's, which has virtiofs, but not 9p.
    """

    kernel: Path
    initrd: Path | None
    cmdline: str
    arch: str
    name: str
    has_agent: bool
    console: str
    disk: Path | None = None
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None
    run: RunConfig | None = None
    has_virtiofs: bool = False


@dataclass(frozen=True)
class DiskImage:
    """A disk, or a disc, that a machine boots from.

    Attributes:
        path: its file; never written to.
        format: its format, detected by its content.
        arch: the machine's architecture as ``uname -m`` prints it.
        name: the name that messages show.
        has_agent: always False: whether the agent is installed in it is not known.
        memory: MiB of a machine; None is the default.
        cpus: virtual processors of a machine; None is one.
        cpu: the processor of a machine, as QEMU's ``-cpu`` takes it; None chooses a suitable one.
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
"""Everything that a machine can boot."""


def host_arch() -> str:
    """This host's architecture, as Linux's ``uname -m`` prints it."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def checked_arch(arch: object) -> str:
    """An architecture as Linux's ``uname -m`` prints it; Debian's name is accepted, too.

    Raises:
        InvalidError: machines cannot have this architecture.
    """
    found = _ARCHES.get(arch, arch) if isinstance(arch, str) else arch
    if not isinstance(found, str) or found not in CONSOLES:
        raise InvalidError(
            f"there are no machines for the architecture {arch!r}",
            todo=f"Choose one of {', '.join(CONSOLES)}.",
        )
    return found


def for_arch(image: Bootable, arch: str | None) -> Bootable:
    """An image, if it is for *arch*. A disk may be for any, and becomes one for *arch*.

    Raises:
        InvalidError: the image is for another architecture.
    """
    if arch is None or image.arch == arch:
        return image
    if isinstance(image, DiskImage):
        return replace(image, arch=arch)
    raise InvalidError(
        f"cannot boot {image.name} on a machine for {arch}", why=f"its kernel is for {image.arch}"
    )


def disk_of(image: Bootable) -> Disk | None:
    """The disk that belongs to an image, never written to; None if it has none.

    Raises:
        CoreInfraError: the file is not a disk.
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
