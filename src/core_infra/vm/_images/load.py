"""A path becomes an image here, and only here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core_infra.errors import InvalidError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.addresses import is_host, is_release
from core_infra.vm._images.debian.release import find_release
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.formats import ImageFormat, detect_format
from core_infra.vm._images.image import (
    Bootable,
    DiskImage,
    Image,
    checked_arch,
    for_arch,
    host_arch,
)
from core_infra.vm._images.image_yaml import DESCRIPTION, DESCRIPTIONS, read_description
from core_infra.vm._images.kernel_set import load_kernel_set
from core_infra.vm._images.linuxkit.detect import is_linuxkit
from core_infra.vm._images.named import NamedImages
from core_infra.vm._images.oci.reference import is_oci
from core_infra.vm._names import is_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.debian.configuration import InMachine


@dataclass(frozen=True)
class Request:
    """The image that a machine is asked to boot.

    Attributes:
        image: an image, or its path or address; None is the default image.
        arch: the machine's architecture; None is the image's, or this host's.
        packages: Debian or Ubuntu packages that it has.
        suite: the release that has them, by its codename; None is the address's, or this host's.
    """

    image: Bootable | str | os.PathLike[str] | None = None
    arch: str | None = None
    packages: tuple[str, ...] = ()
    suite: str | None = None

    def __post_init__(self) -> None:
        image: object = self.image
        if not (image is None or isinstance(image, Bootable) or is_path(image)):
            raise InvalidError(
                f"cannot use {image!r} as an image", todo="Give an image, its path or its address."
            )
        if self.suite is not None and not isinstance(self.suite, str):
            raise InvalidError(f"cannot use {self.suite!r} as a suite", todo="Give its name.")
        if self.arch is not None:
            checked_arch(self.arch)

    @property
    def is_default(self) -> bool:
        """Whether it is the default image."""
        return self.image is None and not self.needs_release

    @property
    def needs_release(self) -> bool:
        """Whether it can only be met by a system that is made of packages."""
        return bool(self.packages) or self.suite is not None


def resolve_image(
    request: Request,
    *,
    progress: Callable[[str], None],
    in_machine: InMachine | None = None,
    refresh: bool = False,
) -> Bootable:
    """The image that a machine is asked to boot, made if need be.

    Args:
        request: what is asked for.
        progress: called with a line of text before anything slow.
        in_machine: boots an image that is being made, and calls a function with the machine.
        refresh: ask registries and repositories what is newest, even if that is known.

    Raises:
        NotFoundError: the path, a file of the image, or a package does not exist.
        InvalidError: it is not bootable, is for another architecture, or cannot have packages.
        UnavailableError: it cannot be made on this host.
    """
    wanted = request.image
    arch = None if request.arch is None else checked_arch(request.arch)
    if isinstance(wanted, Bootable):
        _check_plain(request, wanted.name)
        return for_arch(wanted, arch)
    if request.is_default:
        return default_image(arch or host_arch(), cache_dir=cache_root(), progress=progress)
    if wanted is None or is_release(wanted):
        return _made_of_packages(
            request, arch or host_arch(), in_machine, progress, refresh=refresh
        )
    _check_plain(request, os.fspath(wanted))
    return load_image(wanted, arch=arch, refresh=refresh, progress=progress)


def _named(path: str | os.PathLike[str], given: Path) -> Image | None:
    """The image that the user has named so; a path in the working directory comes first."""
    if not isinstance(path, str) or given.exists() or Path(f"{given}-kernel").exists():
        return None
    return NamedImages().find(path)


def _check_plain(request: Request, name: str) -> None:
    """Raise InvalidError if packages are asked for in an image that cannot have them."""
    if request.needs_release:
        what = "packages" if request.packages else f"the suite {request.suite}"
        raise InvalidError(
            f"cannot use {what} with the image {name}",
            why="packages and suite are for systems that are made of packages",
            todo="Leave image out, or choose a release: image='debian:12'.",
        )


def _made_of_packages(
    request: Request,
    arch: str,
    in_machine: InMachine | None,
    progress: Callable[[str], None],
    *,
    refresh: bool,
) -> Bootable:
    # Imported here: few runs need it.
    from core_infra.vm._images.debian.image import Wanted, debian_image  # noqa: PLC0415

    release = find_release(os.fspath(cast("str", request.image or "")), request.suite)
    return debian_image(
        Wanted(release, request.packages, arch),
        cache_dir=cache_root(),
        in_machine=in_machine,
        refresh=refresh,
        progress=progress,
    )


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
            directory; a LinuxKit file, NAME.yml; the address of an OCI image, such as
            ``oci:nginx:1.27``; or a release, such as ``debian:12``, if
            :meth:`Launcher.make_image` has made its image on this host.
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
    if is_release(path):
        return _made_of_packages(Request(path), arch or host_arch(), None, progress, refresh=False)
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
    if is_host(path):
        from core_infra.vm._images.host import host_image  # noqa: PLC0415 - few runs need it

        return host_image(arch or host_arch(), cache_dir=cache_root(), progress=progress)
    given = Path(path).expanduser().absolute()
    if (named := _named(path, given)) is not None:
        return for_arch(named, arch)
    described = given if given.suffix in DESCRIPTIONS and given.is_file() else given / DESCRIPTION
    found: Bootable
    if described == given and is_linuxkit(given):
        from core_infra.vm._images.linuxkit.image_cache import file_image  # noqa: PLC0415 - as above

        found = file_image(given, arch=arch, progress=progress)
    elif described.is_file():
        found = read_description(described, arch)
    elif (format_ := detect_format(given)) is ImageFormat.KERNEL:
        found = load_kernel_set(given)
    else:
        found = DiskImage(given, format_, arch or host_arch(), given.name)
    return for_arch(found, arch)


def checked_packages(names: object) -> tuple[str, ...]:
    """The names of packages as a tuple.

    Raises:
        InvalidError: they are not a list.
    """
    if names is None:
        return ()
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InvalidError(
            f"cannot use {names!r} as packages", todo="Give a list, such as ['nginx-light']."
        )
    found = tuple(names)
    for name in found:
        if not isinstance(name, str) or not name:
            raise InvalidError(f"cannot use {name!r} as a package", why="it is not a name")
    return found
