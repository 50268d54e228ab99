"""The image that a machine is asked for."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._cache import cache_root
from core_infra.vm._hypervisors.accelerator import foreign
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk_files import is_written_once
from core_infra.vm._images.formats import (
    Bootable,
    ImageFormat,
    checked_arch,
    disk_of,
    host_arch,
    open_image,
)
from core_infra.vm._images.linuxkit import assembly
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._launcher import Launcher

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from core_infra.vm._hypervisors.hypervisor import HostedHypervisor
    from core_infra.vm._images.image import Image
    from core_infra.vm._images.linuxkit.assembly import Assembler
    from core_infra.vm._manager.record import RunOptions


DEFAULT = "default"
"""What the default image is asked for by."""


def find(
    image: str | os.PathLike[str] | Bootable, *, arch: str, tell: Callable[[str], None]
) -> Bootable:
    """The image asked for: ``default``, one at a path, or just that."""
    if isinstance(image, Bootable):
        return image
    if image == DEFAULT:
        chosen = checked_arch(arch) if arch else host_arch()
        return default_image(chosen, cache_dir=cache_root(), progress=tell)
    return open_image(image, arch=arch or None)


def of_template(name: str, variables: Mapping[str, str], *, tell: Callable[[str], None]) -> Image:
    """The image of a template, built by the program ``linuxkit`` unless it was before.

    Raises:
        NotFoundError: there is none of this name.
        MissingVariablesError: names all variables that it needs and that are not given.
        UnavailableError: linuxkit is not installed.
    """
    text = TemplateManager().apply_template(name, variables)
    return build(text, assembly.LinuxKitProgram(), arch="", tell=tell)


def build(text: str, assembler: Assembler, *, arch: str, tell: Callable[[str], None]) -> Image:
    """The image of a LinuxKit file."""
    return assembly.build(
        text, arch=arch or host_arch(), cache=cache_root(), assembler=assembler, tell=tell
    )


def check(image: Bootable, options: RunOptions) -> None:
    """Raise CoreInfraError for what cannot be asked for with an image."""
    if options.ssh_key and not Path(options.ssh_key).expanduser().is_file():
        raise NotFoundError(f"there is no private key {options.ssh_key}")
    if not options.ssh_user:
        raise InvalidError("there is no user without a name to log in")
    if options.in_place and (why := _not_written(image)):
        raise InvalidError(f"cannot run {image.name} in place", why=why)


def _not_written(image: Bootable) -> str:
    """Why an image cannot be written to; empty if it can."""
    disk = disk_of(image)
    if disk is None or disk.read_only:
        return "it is no disk that is written to"
    if disk.format == ImageFormat.PACKED:
        return "it is packed: unpack it first"
    if disk.format == ImageFormat.VMDK and is_written_once(disk.path):
        return "it is a vmdk that is written once, as streams are: convert it first"
    return ""


def accelerator(
    hypervisor: HostedHypervisor, requested: str, arch: str, tell: Callable[[str], None]
) -> str:
    """The accelerator that works here for machines of *arch*.

    :mod:`~core_infra.vm._hypervisors.accelerator` finds out.

    Raises:
        InvalidError: there is none of this name.
        UnavailableError: the one asked for does not work here.
    """
    if not hypervisor.has_monitor:
        return ""  # it has one of its own
    if arch != host_arch():
        return foreign(requested, arch).name
    if requested == "auto" and sys.platform == "darwin":
        return "hvf" if platform.machine() in ("x86_64", "arm64") else "tcg"
    with Launcher(accelerator=requested, progress=tell) as launcher:
        try:
            return launcher.accelerator.name
        except CoreInfraError as error:
            # It is the default image that cannot be built: the user's own needs no such proof.
            if requested != "auto":
                raise
            tell(f"machines are emulated: {error}")
            return "tcg"
