"""How a machine is run: options, their check against the image, and the accelerator."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._hypervisors.accelerator import foreign
from core_infra.vm._images.disk_files import is_written_once
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import disk_of, host_arch
from core_infra.vm._images.load import Request, checked_packages, resolve_image
from core_infra.vm._launcher import Launcher, starter_of
from core_infra.vm._manager.record import Port, Volume

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from core_infra.vm._hypervisors.hypervisor import Hypervisor
    from core_infra.vm._images.image import Bootable, Image
    from core_infra.vm._machine import Machine

DEFAULT = "default"
"""The name of the default image."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a machine is run.

    Attributes:
        name: a unique name; None generates one.
        detach: the machine outlives the process that starts it.
        memory: MiB; None is the image's, or a default.
        cpus: virtual processors; None is the image's, or one.
        cpu: the processor, as QEMU's ``-cpu`` takes it; None chooses a suitable one.
        ports: ports of this host's loopback address, each with the guest's port.
        publish: more ports. For a number, which is the guest's port, the system chooses the port of
            this host.
        volumes: directories and files of this host, each with its path in the guest.
        ssh_port: the port of this host for the machine's SSH server; 0 lets the system choose.
        ssh_user: the user to log in as by SSH.
        ssh_key: the file with the private key; empty creates one for this machine.
        hypervisor: the name of the program that runs it; empty chooses an installed one.
        accelerator: auto, kvm, hvf or tcg.
        arch: the architecture of the default image, or of a disk, whose content does not show it;
            empty is this host's.
        packages: Debian or Ubuntu packages of the image ``default`` or ``debian``.
        suite: the release that has them, such as ``trixie``; empty is the image's, or this host's.
        isolated: the machine cannot reach this host or any network.
        in_place: the machine writes to the image's own disk, and not to a layer over it.
    """

    name: str | None = None
    detach: bool = False
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    publish: Sequence[int | Port] = ()
    volumes: Mapping[str, str] | Sequence[Volume] = ()
    ssh_port: int = 0
    ssh_user: str = "root"
    ssh_key: str = ""
    hypervisor: str = ""
    accelerator: str = "auto"
    arch: str = ""
    packages: Sequence[str] = ()
    suite: str = ""
    isolated: bool = False
    in_place: bool = False

    @property
    def published(self) -> list[Port]:
        """All ports."""
        return [
            *(Port.model_construct(host=host, guest=guest) for host, guest in self.ports.items()),
            *(one if isinstance(one, Port) else Port.model_construct(guest=one, chosen=True)
              for one in self.publish),
        ]  # fmt: skip

    @property
    def mounts(self) -> list[Volume]:
        """All volumes."""
        if isinstance(self.volumes, Mapping):
            return [Volume(path=path, place=place) for path, place in self.volumes.items()]
        return list(self.volumes)


def wanted_image(
    image: str | os.PathLike[str] | Bootable, options: RunOptions, progress: Callable[[str], None]
) -> Bootable:
    """The image that a machine is asked to run, made if need be.

    Raises:
        CoreInfraError: as :meth:`Launcher.make_image`.
    """

    def in_machine(found: Image, work: Callable[[Machine], None]) -> None:
        with Launcher(accelerator=options.accelerator, ready=0, progress=progress) as launcher:
            starter_of(launcher).work_in(found, work)

    request = Request(
        None if image == DEFAULT else image,
        options.arch or None,
        checked_packages(options.packages),
        options.suite or None,
    )
    return resolve_image(request, in_machine=in_machine, progress=progress)


def check_options(options: RunOptions, image: Bootable) -> None:
    """Raise CoreInfraError for options that are not possible with an image."""
    if options.ssh_key and not Path(options.ssh_key).expanduser().is_file():
        raise NotFoundError(f"there is no private key {options.ssh_key}")
    if not options.ssh_user:
        raise InvalidError("the user to log in as by SSH must have a name")
    if options.in_place and (why := _why_read_only(image)):
        raise InvalidError(f"cannot run {image.name} in place", why=why)


def _why_read_only(image: Bootable) -> str:
    """Why an image cannot be written to; empty if it can."""
    disk = disk_of(image)
    if disk is None or disk.read_only:
        return "it is not a disk that can be written to"
    if disk.format == ImageFormat.PACKED:
        return "it is packed: unpack it first"
    if disk.format == ImageFormat.VMDK and is_written_once(disk.path):
        return "it is a stream-optimized vmdk, which can be written only once: convert it first"
    return ""


def choose_accelerator(
    hypervisor: Hypervisor, requested: str, arch: str, progress: Callable[[str], None]
) -> str:
    """The name of the accelerator for machines of *arch* on this host.

    Raises:
        InvalidError: no accelerator has the requested name.
        UnavailableError: the requested one does not work on this host.
    """
    if not hypervisor.has_monitor:
        return ""  # it has an accelerator of its own
    if arch != host_arch():
        return foreign(requested, arch).name
    if requested == "auto" and sys.platform == "darwin":
        return "hvf" if platform.machine() in ("x86_64", "arm64") else "tcg"
    with Launcher(accelerator=requested, progress=progress) as launcher:
        try:
            return launcher.accelerator.name
        except CoreInfraError as error:
            # The default image, with which it is tried, cannot be built. The user's image may work.
            if requested != "auto":
                raise
            progress(f"machines are emulated: {error}")
            return "tcg"
