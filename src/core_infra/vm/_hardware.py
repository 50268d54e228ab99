"""What a machine can be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeGuard

from core_infra._unpatched import os
from core_infra.errors import InvalidError
from core_infra.vm._hypervisors.disposable import MachineSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.vm._hypervisors.disposable import Disk
    from core_infra.vm._images.image import Bootable

DEFAULT_MEMORY = 256
"""MiB of a machine with one of our own images that says nothing else."""

FOREIGN_MEMORY = 1024
"""MiB of a machine with any other image that says nothing else."""

MINIMUM_MEMORY = 64
"""MiB below which a kernel dies before it can say so."""

MAXIMUM_CPUS = 255
"""QEMU's limit for its PC machines."""


class MachineOptions(TypedDict, total=False):
    """What a machine is made of; what is left out, or None, is the launcher's.

    Attributes:
        memory: MiB; where nobody says, a default that fits the image.
        cpus: virtual processors.
        disks: of its own: sizes of empty ones, such as ``2G``, or images, which are never written
            to.
        cpu: its processor, as QEMU's ``-cpu`` takes it, such as ``max,cx16=off``; where nobody
            says, one that suits QEMU and the guest's kernel.
        arch: its architecture, ``x86_64`` or ``aarch64``.
        kernel: a kernel to boot instead of the image's. If it is named NAME-kernel, NAME-initrd.img
            beside it is its initrd.
        initrd: an initrd instead of the image's.
        cmdline: more for the kernel's command line: put after the image's own.
    """

    memory: int | None
    cpus: int | None
    disks: Iterable[str | os.PathLike[str]]
    cpu: str | None
    arch: str | None
    kernel: str | os.PathLike[str] | None
    initrd: str | os.PathLike[str] | None
    cmdline: str | None


def machine_spec(
    name: str,
    image: Bootable,
    memory: int | None,
    cpus: int,
    disks: Iterable[Disk] = (),
) -> MachineSpec:
    """The machine of these sizes.

    Args:
        name: its name.
        image: what it boots.
        memory: MiB; None is what fits the image.
        cpus: virtual processors.
        disks: what they begin as.

    Raises:
        InvalidError: a value is not possible.
    """
    memory = fitting_memory(image) if memory is None else memory
    check(memory, cpus)
    return MachineSpec(name, image, memory, cpus, tuple(disks))


def fitting_memory(image: Bootable) -> int:
    """The MiB of a machine with this image, if nobody says."""
    if image.memory is not None:
        return image.memory
    return DEFAULT_MEMORY if image.has_agent else FOREIGN_MEMORY


def check(memory: object, cpus: object) -> None:
    """Raise InvalidError unless a machine can have so many MiB and virtual processors."""
    if not _is_whole(memory) or not _is_whole(cpus):
        raise InvalidError(
            f"cannot boot a machine with memory={memory!r} and cpus={cpus!r}",
            why="both are whole numbers: of MiB, and of processors",
        )
    if memory < MINIMUM_MEMORY:
        raise InvalidError(
            f"cannot boot a machine with {memory} MiB of memory",
            why=f"a Linux kernel needs at least {MINIMUM_MEMORY} MiB to say what is wrong",
            todo="Leave it out for a default that fits the image.",
        )
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    if memory > here:
        raise InvalidError(
            f"cannot boot a machine with {memory} MiB of memory", why=f"this host has {here} MiB"
        )
    if not 1 <= cpus <= MAXIMUM_CPUS:
        raise InvalidError(
            f"cannot boot a machine with {cpus} cpus", why=f"1 to {MAXIMUM_CPUS} are possible"
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
