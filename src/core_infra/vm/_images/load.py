"""A path becomes an image here, and only here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.formats import ImageFormat, detect_format
from core_infra.vm._images.image import (
    Bootable,
    DiskImage,
    checked_arch,
    for_arch,
    host_arch,
)
from core_infra.vm._images.image_yaml import DESCRIPTION, DESCRIPTIONS, read_description
from core_infra.vm._images.kernel_set import load_kernel_set
from core_infra.vm._images.linuxkit.detect import is_linuxkit
from core_infra.vm._images.oci.reference import is_oci

if TYPE_CHECKING:
    from collections.abc import Callable


def resolve_image(
    wanted: Bootable | str | os.PathLike[str] | None,
    *,
    arch: str | None = None,
    progress: Callable[[str], None],
) -> Bootable:
    """The image that a machine is asked to boot.

    Args:
        wanted: an image, or its path; None is the default image, which is built if need be.
        arch: the machine's architecture; None is the image's, or this host's.
        progress: called with a line of text before anything slow.

    Raises:
        NotFoundError: the path, or a file of the image, does not exist.
        InvalidError: it is not bootable, or is for another architecture.
        UnavailableError: the default image cannot be built on this host.
    """
    arch = None if arch is None else checked_arch(arch)
    if wanted is None:
        return default_image(arch or host_arch(), cache_dir=cache_root(), progress=progress)
    if isinstance(wanted, Bootable):
        return for_arch(wanted, arch)
    return load_image(wanted, arch=arch, progress=progress)


def load_image(
    path: str | os.PathLike[str],
    *,
    arch: str | None = None,
    refresh: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Bootable:
    """The image at *path*, in any supported form.

    Args:
        path: a disk in any supported format; a description (``image.yaml``, or its directory); a
            set of NAME-kernel, NAME-initrd.img and NAME-cmdline: NAME, one of the files, or their
            directory; a LinuxKit file, NAME.yml; or the address of an OCI image, such as
            ``oci:nginx:1.27``.
        arch: the architecture of a disk, which its content does not show: by default this host's.
            Any other image must be for it.
        refresh: ask the registry which image a tag names, even if that is known.
        progress: called with a line of text before anything slow.

    Raises:
        NotFoundError: the file, or a part of a set, does not exist.
        InvalidError: it is not bootable, or cannot be read.
    """
    if not os.fspath(path):
        raise InvalidError("the path of an image must not be empty")
    arch = None if arch is None else checked_arch(arch)
    if is_oci(path):
        # Imported here: it brings an HTTP client, and few runs need it.
        from core_infra.vm._images.oci.sources import load_oci  # noqa: PLC0415

        return load_oci(
            os.fspath(path),
            arch or host_arch(),
            cache_dir=cache_root(),
            refresh=refresh,
            progress=progress,
        )
    given = Path(path).expanduser().absolute()
    described = given if given.suffix in DESCRIPTIONS and given.is_file() else given / DESCRIPTION
    found: Bootable
    if described == given and is_linuxkit(given):
        from core_infra.vm._images.linuxkit.assembly import file_image  # noqa: PLC0415 - as above

        found = file_image(given, arch=arch, progress=progress)
    elif described.is_file():
        found = read_description(described, arch)
    elif (format_ := detect_format(given)) is ImageFormat.KERNEL:
        found = load_kernel_set(given)
    else:
        found = DiskImage(given, format_, arch or host_arch(), given.name)
    return for_arch(found, arch)
