"""An image with another kernel, more on its command line, or another first process."""

from __future__ import annotations

import re
from dataclasses import replace

from core_infra._unpatched import Path, os
from core_infra.errors import InvalidError
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import OWN_INIT, Bootable, DiskImage
from core_infra.vm._images.kernel_set import check_content, files_beside, kernel_image
from core_infra.vm._names import is_path

_INITS = ("systemd", "busybox")
_PROGRAM = re.compile(r"/[!-~]+")


def with_kernel(
    image: Bootable,
    *,
    kernel: str | os.PathLike[str] | None,
    initrd: str | os.PathLike[str] | None,
    cmdline: object,
) -> Bootable:
    """An image with another kernel, another initrd, or more on its command line.

    With a kernel, a disk is not booted by itself: the kernel finds its root there.

    Raises:
        InvalidError: it has no kernel that takes a command line; or the file is not a kernel.
        NotFoundError: there is no such file.
    """
    own_kernel, own_initrd = _file(kernel), _file(initrd)
    if cmdline is not None and not (isinstance(cmdline, str) and cmdline.isprintable()):
        raise InvalidError(
            f"cannot use {cmdline!r} as a command line", why="it is one line of text for the kernel"
        )
    if own_kernel is None and own_initrd is None and cmdline is None:
        return image
    if own_kernel is not None:
        image = _of_kernel(image, own_kernel)
    if isinstance(image, DiskImage):
        raise InvalidError(
            f"cannot give {image.name} an initrd or a command line",
            why="it is a disk, which boots a kernel of its own",
            todo="Give a kernel as well, as kernel=PATH.",
        )
    if own_initrd is not None:
        check_content(own_initrd)
        image = replace(image, initrd=own_initrd)
    if cmdline is None:
        return image
    # Of a parameter that is there twice, Linux takes the last.
    return replace(image, cmdline=f"{image.cmdline} {cmdline}".strip())


def with_programs(image: Bootable, *, entrypoint: bool, init: str | None) -> Bootable:
    """An image that starts its own program, or has another first process.

    Raises:
        InvalidError: it is not such an image, or names no program.
    """
    if not entrypoint and init is None:
        return image
    run = None if isinstance(image, DiskImage) else image.run
    if isinstance(image, DiskImage) or run is None:
        raise InvalidError(
            f"cannot choose the programs that {image.name} starts",
            why="entrypoint and init are for OCI images and images made of packages",
        )
    if entrypoint and not (run.entrypoint or run.cmd):
        raise InvalidError(
            f"cannot start the entrypoint of {image.name}",
            why="the image has neither ENTRYPOINT nor CMD",
        )
    if init is not None and init not in _INITS and not _PROGRAM.fullmatch(str(init)):
        raise InvalidError(
            f"cannot use {init!r} as the first process",
            why="it must be systemd, busybox, or the path of a program in the image",
        )
    words = [image.cmdline]
    words += [f"{OWN_INIT}{init}"] if init else []
    words += ["core_infra.entrypoint"] if entrypoint else []
    return replace(image, cmdline=" ".join(words))


def _of_kernel(image: Bootable, kernel: Path) -> Bootable:
    initrd, cmdline = files_beside(kernel)
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
    if not is_path(value):
        raise InvalidError(f"cannot use {value!r} as a kernel or an initrd", why="it is not a path")
    return Path(value).expanduser().absolute()
