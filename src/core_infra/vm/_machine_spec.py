"""What a machine is made of: what its test asks for, else the launcher's options, else its image's.

The image comes first, since the rest depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, Unpack

from core_infra._unpatched import Path, os
from core_infra.errors import InvalidError
from core_infra.vm._cache import cache_root, tell_news
from core_infra.vm._disks import as_disks, usable
from core_infra.vm._hardware import MachineOptions, machine_spec
from core_infra.vm._hypervisors.processor import check_processor
from core_infra.vm._images.agent_injection import delivered
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, checked_arch, for_arch, host_arch
from core_infra.vm._images.kernel_set import beside, check_content, kernel_image
from core_infra.vm._images.load import load_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._hypervisors.disposable import MachineSpec
    from core_infra.vm._images.image import Bootable, Image

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What machines are made of that ask for nothing else; None is what fits the image.

    Attributes:
        image: what they boot, or its path; None is the default image.
        memory: their MiB.
        cpus: their virtual processors.
        cpu: their processor, as QEMU's ``-cpu`` takes it.
        arch: their architecture.
    """

    image: Bootable | str | os.PathLike[str] | None = None
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None
    arch: str | None = None


class SpecResolver:
    """Makes out what machines are made of.

    Args:
        defaults: for what a machine does not ask for.
        require: raises an error if machines of an architecture cannot be run here.
        progress: is given a line when something takes long.
    """

    def __init__(
        self,
        defaults: Defaults,
        *,
        require: Callable[[str], object],
        progress: Callable[[str], None],
    ) -> None:
        self._defaults = defaults
        self._require = require
        self._progress = progress
        self._image: Bootable | None = None

    @property
    def image(self) -> Bootable:
        """What machines boot that ask for no other; the default image is built if need be."""
        if self._image is None:
            given, arch = self._defaults.image, self._defaults.arch
            arch = None if arch is None else checked_arch(arch)
            if given is None:
                self._image = self.default_image(arch)
            else:
                self._image = _opened(given, arch)
        return self._image

    def default_image(self, arch: str | None = None) -> Image:
        """The default image, built if need be; for this host's architecture, if none is given."""
        arch = arch or host_arch()
        self._require(arch)  # before packages are downloaded
        return default_image(arch, cache_dir=cache_root(), progress=self._progress)

    def forget(self) -> None:
        """The default image was removed meanwhile: it is made again when it is needed."""
        if self._defaults.image is None:
            self._image = None

    def spec(
        self,
        name: str,
        image: Bootable | str | os.PathLike[str] | None,
        sizes: MachineOptions,
    ) -> MachineSpec:
        """What a machine will be made of.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such file.
            TypeError: there is no such size.
        """
        if unknown := sizes.keys() - MachineOptions.__annotations__:
            raise TypeError(f"there is no argument {', '.join(map(repr, unknown))}")
        chosen = with_kernel(self._chosen(image, sizes.get("arch")), **sizes)
        boots, delivery = delivered(chosen)
        wanted = [*delivery, *as_disks(sizes.get("disks") or ())]
        disks = [usable(disk, self._progress) for disk in wanted]
        tell_news(self._progress)
        defaults = self._defaults
        cpu = _first(sizes.get("cpu"), defaults.cpu, chosen.cpu)
        cpus = _first(sizes.get("cpus"), defaults.cpus, chosen.cpus)
        check_processor(cpu)
        spec = machine_spec(
            name,
            boots,
            _first(sizes.get("memory"), defaults.memory, chosen.memory),
            1 if cpus is None else cpus,
            disks,
        )
        return replace(spec, cpu=cpu)

    def _chosen(
        self, image: Bootable | str | os.PathLike[str] | None, arch: str | None
    ) -> Bootable:
        arch = None if arch is None else checked_arch(arch)
        if image is None and self._defaults.image is None and arch is not None:
            return self.image if self.image.arch == arch else self.default_image(arch)
        return _opened(self.image if image is None else image, arch)


def _opened(image: Bootable | str | os.PathLike[str], arch: str | None) -> Bootable:
    if isinstance(image, str | os.PathLike):
        return load_image(image, arch=arch)
    return for_arch(image, arch)


def with_kernel(image: Bootable, **sizes: Unpack[MachineOptions]) -> Bootable:
    """An image with another kernel, another initrd, or more on its command line.

    With a kernel, a disk is not booted by itself: the kernel finds its root there.

    Raises:
        InvalidError: it has no kernel that could take a command line; the file is no kernel.
        NotFoundError: there is no such file.
    """
    kernel, initrd = _file(sizes.get("kernel")), _file(sizes.get("initrd"))
    more: object = sizes.get("cmdline")
    if more is not None and not (isinstance(more, str) and more.isprintable()):
        raise InvalidError(
            f"cannot use {more!r} as a command line", why="it is one line of text for the kernel"
        )
    if kernel is None and initrd is None and more is None:
        return image
    if kernel is not None:
        image = _of_kernel(image, kernel)
    if isinstance(image, DiskImage):
        raise InvalidError(
            f"cannot give {image.name} an initrd or a command line",
            why="it is a disk, which boots a kernel of its own",
            todo="Give a kernel as well, as kernel=PATH.",
        )
    if initrd is not None:
        check_content(initrd)
        image = replace(image, initrd=initrd)
    # Of a parameter that is there twice, Linux takes the last.
    return image if more is None else replace(image, cmdline=f"{image.cmdline} {more}".strip())


def _of_kernel(image: Bootable, kernel: Path) -> Bootable:
    initrd, cmdline = beside(kernel)
    if isinstance(image, DiskImage):
        if image.format is ImageFormat.ISO:
            raise InvalidError(f"cannot give {image.name} a kernel", why="it is a disc")
        found = kernel_image(kernel, initrd, cmdline, name=image.name, disk=image.path)
    else:
        check_content(kernel)
        found = kernel_image(kernel, initrd or image.initrd, image.cmdline, name=image.name)
        found = replace(image, kernel=kernel, initrd=found.initrd, arch=found.arch)
    if found.arch != image.arch:
        raise InvalidError(
            f"cannot boot {image.name} with the kernel {kernel}",
            why=f"the image is for {image.arch}, and the kernel for {found.arch}",
        )
    return replace(found, memory=image.memory, cpus=image.cpus, cpu=image.cpu)


def _file(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise InvalidError(f"cannot use {value!r} as a kernel or an initrd", why="it is no path")
    return Path(value).expanduser().absolute()


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)
