"""What a machine is made of: its options, resolved with the launcher's defaults and the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

from core_infra.vm._cache import report_news
from core_infra.vm._disks import as_disks, usable
from core_infra.vm._hardware import (
    DEFAULT_MEMORY,
    FOREIGN_MEMORY,
    HERMETIC,
    REAL,
    check_memory_and_cpus,
    check_network,
    check_processor,
    check_time,
)
from core_infra.vm._images.addresses import is_made
from core_infra.vm._images.agent_injection import with_agent
from core_infra.vm._images.image import Bootable, Image, checked_arch, for_arch, host_arch
from core_infra.vm._images.load import Request, checked_packages, resolve_image
from core_infra.vm._images.manifest import INITRD, MANIFEST
from core_infra.vm._images.overrides import with_kernel, with_programs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from core_infra.vm._hardware import Disk
    from core_infra.vm._images.debian.configuration import InMachine

T = TypeVar("T")
_OWN_LEAST = {"x86_64": 88}
"""MiB with which the kernel of our images can unpack its initrd. Measured with Linux 6.1: it panics
with 86 MiB, for lack of memory."""


class MachineOptions(TypedDict, total=False):
    """The options of a machine; those that are absent or None have the launcher's values.

    Attributes:
        memory: MiB; default: what fits the image.
        cpus: virtual processors.
        disks: its own disks: sizes of empty ones, such as ``2G``, or images, which are never
            written to.
        cpu: its processor, as QEMU's ``-cpu`` takes it, such as ``max,cx16=off``; default: one
            that suits QEMU and the guest's kernel.
        arch: its architecture, ``x86_64`` or ``aarch64``.
        kernel: a kernel to boot instead of the image's. If it is named NAME-kernel, NAME-initrd.img
            beside it is its initrd.
        initrd: an initrd instead of the image's.
        cmdline: text to append to the kernel's command line.
        entrypoint: start the program that an OCI image is for, its ENTRYPOINT and CMD.
        init: the first process of an image whose root is a disk: ``systemd``, ``busybox``, or the
            path of a program in it; default: systemd for packages, else busybox.
        packages: Debian or Ubuntu packages, such as ``postgresql``. Without an image, or with the
            image ``debian``, the machine is a system of this host's release that has them.
        suite: another release, such as ``trixie`` or ``jammy``.
        time: ``real`` (default), or ``virtual``: the guest's clocks do not wait while it is idle.
        network: ``hermetic`` (default): it reaches nothing; ``nat``: it reaches what this host
            reaches, so that ``apt-get install`` works in it.
    """

    memory: int | None
    cpus: int | None
    disks: Iterable[str | os.PathLike[str]]
    cpu: str | None
    arch: str | None
    kernel: str | os.PathLike[str] | None
    initrd: str | os.PathLike[str] | None
    cmdline: str | None
    entrypoint: bool
    init: str | None
    network: str | None
    time: str | None
    packages: Sequence[str] | None
    suite: str | None


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """The specification of a machine.

    Attributes:
        name: its name, unique within the run.
        image: the image that it boots.
        memory: MiB.
        cpus: virtual processors.
        disks: the initial contents of its disks, in order; never written to.
        cpu: the processor, as QEMU's ``-cpu`` takes it; None: one that suits the guest.
        cards: how many cards it has on networks of the run.
        network: what it reaches: ``hermetic`` or ``nat``.
        time: how its clocks run: ``real`` or ``virtual``.
    """

    name: str
    image: Bootable
    memory: int
    cpus: int
    disks: tuple[Disk, ...] = ()
    cpu: str | None = None
    cards: int = 0
    network: str = HERMETIC
    time: str = REAL

    def named(self, name: str) -> MachineSpec:
        """The same with another name."""
        return replace(self, name=name)


def default_memory(image: Bootable) -> int:
    """The default MiB of a machine with this image."""
    if image.memory is not None:
        return image.memory
    return DEFAULT_MEMORY if image.has_agent else FOREIGN_MEMORY


def check_memory_of(image: Bootable, memory: object, cpus: object) -> None:
    """Raise InvalidError unless a machine of an image can have this memory (MiB) and cpus."""
    least = _OWN_LEAST.get(image.arch)
    if least is not None and isinstance(image, Image) and _is_made_here(image):
        check_memory_and_cpus(memory, cpus, least=least, image=image.name)
    else:
        check_memory_and_cpus(memory, cpus)


def _is_made_here(image: Image) -> bool:
    """Whether its kernel and its initrd are those that core-infra has built."""
    place = image.kernel.parent
    return image.initrd == place / INITRD and (place / MANIFEST).is_file()


@dataclass(frozen=True, slots=True)
class Defaults:
    """The launcher's values for options that a machine does not set; None: what fits the image.

    Attributes:
        image: the image, or its path; None: the default image.
        memory: their MiB.
        cpus: their virtual processors.
        cpu: their processor, as QEMU's ``-cpu`` takes it.
        arch: their architecture.
        network: what they reach.
    """

    image: Bootable | str | os.PathLike[str] | None = None
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None
    arch: str | None = None
    network: str | None = None


class SpecResolver:
    """Resolves the options of machines to specifications.

    Args:
        defaults: the values of options that a machine does not set.
        require: raises an error if machines of an architecture cannot run here.
        in_machine: boots an image that is being made, and calls a function with the machine.
        progress: called with a line when something takes long.
    """

    def __init__(
        self,
        defaults: Defaults,
        *,
        require: Callable[[str], object],
        in_machine: InMachine,
        progress: Callable[[str], None],
    ) -> None:
        self._defaults = defaults
        self._require = require
        self._in_machine = in_machine
        self._progress = progress
        self._image: Bootable | None = None
        self._made: dict[Request, Bootable] = {}

    @property
    def image(self) -> Bootable:
        """The image of machines that name no other; the default image is built if necessary."""
        if self._image is None:
            self._image = self._resolve(Request(self._defaults.image, self._defaults.arch))
        return self._image

    @property
    def trial_image(self) -> Bootable:
        """The image to find out with whether machines run here: what is quickly there."""
        wanted = self._defaults.image
        return self.default_image() if isinstance(wanted, str) and is_made(wanted) else self.image

    def default_image(self, arch: str | None = None) -> Bootable:
        """The default image, built if necessary; of this host's architecture by default."""
        return self._resolve(Request(None, arch))

    def forget(self) -> None:
        """Images were removed meanwhile: make them again when they are needed."""
        self._made.clear()
        if self._defaults.image is None or is_made(self._defaults.image):
            self._image = None

    def make_image(self, request: Request, *, refresh: bool) -> Bootable:
        """The image of a request; *refresh* asks registries and repositories what is newest."""
        if request.arch is None:
            request = replace(request, arch=self._defaults.arch)
        found = self._resolve(request, refresh=refresh)
        if request.image is None or is_made(request.image):
            self._made[request] = found
        return found

    def spec(
        self,
        name: str,
        image: Bootable | str | os.PathLike[str] | None,
        options: MachineOptions,
    ) -> MachineSpec:
        """The specification of a machine: its options, else the defaults, else the image's values.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such file.
            TypeError: there is no such option.
        """
        if unknown := options.keys() - MachineOptions.__annotations__:
            raise TypeError(f"there is no argument {', '.join(map(repr, unknown))}")
        # The image comes first, since the rest depends on it.
        chosen = with_programs(
            with_kernel(
                self._chosen(image, options),
                kernel=options.get("kernel"),
                initrd=options.get("initrd"),
                cmdline=options.get("cmdline"),
            ),
            entrypoint=bool(options.get("entrypoint")),
            init=options.get("init"),
        )
        boots, own_disks = with_agent(chosen)
        wanted = [*own_disks, *as_disks(options.get("disks") or ())]
        disks = tuple(usable(disk, self._progress) for disk in wanted)
        report_news(self._progress)
        defaults = self._defaults
        cpu = _first(options.get("cpu"), defaults.cpu, chosen.cpu)
        cpus = _first(options.get("cpus"), defaults.cpus, chosen.cpus)
        memory = _first(options.get("memory"), defaults.memory, chosen.memory)
        memory = default_memory(boots) if memory is None else memory
        cpus = 1 if cpus is None else cpus
        network = _first(options.get("network"), defaults.network)
        network = HERMETIC if network is None else network
        check_processor(cpu)
        check_memory_of(boots, memory, cpus)
        check_network(network)
        time = options.get("time") or REAL
        check_time(time, cpus)
        return MachineSpec(name, boots, memory, cpus, disks, cpu, network=network, time=time)

    def _chosen(
        self, image: Bootable | str | os.PathLike[str] | None, options: MachineOptions
    ) -> Bootable:
        arch, suite = options.get("arch"), options.get("suite")
        packages = checked_packages(options.get("packages"))
        if image is None and not packages and suite is None:
            if arch is None:
                return self.image
            if self._defaults.image is None:
                right = self.image.arch == checked_arch(arch)
                return self.image if right else self.default_image(arch)
            return for_arch(self.image, checked_arch(arch))
        wanted = self._defaults.image if image is None else image
        request = Request(wanted, self._defaults.arch if arch is None else arch, packages, suite)
        if request not in self._made:
            return self.make_image(request, refresh=False)
        return self._made[request]

    def _resolve(self, request: Request, *, refresh: bool = False) -> Bootable:
        if not isinstance(request.image, Bootable):  # before packages are downloaded
            arch = request.arch
            if request.image is None or is_made(request.image):
                self._require(host_arch() if arch is None else checked_arch(arch))
        return resolve_image(
            request, in_machine=self._in_machine, refresh=refresh, progress=self._progress
        )


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)
