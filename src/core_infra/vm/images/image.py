"""A bootable image: what a hypervisor needs to know of it, and the images that users bring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm.images.magic import LOOK, describe, kernel_arch
from core_infra.vm.images.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    import os

CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
"""The serial line of each architecture that a guest may have."""

_KERNEL = "-kernel"
_INITRD = "-initrd.img"
_CMDLINE = "-cmdline"
_FORM = (
    "An image is three files: NAME-kernel, NAME-initrd.img and NAME-cmdline. "
    "Give NAME, one of the files, or a directory with one such set."
)
_CONSOLE = re.compile(r"(?<!\S)console=([^\s,]+)")


@dataclass(frozen=True)
class Image:
    """A bootable image: a kernel and the file system that it starts with.

    Attributes:
        kernel: the kernel's file.
        initrd: the initial file system's file; None if the kernel has one inside.
        cmdline: the kernel's command line.
        arch: the machine's architecture as ``uname -m`` says it: ``x86_64`` or ``aarch64``.
        name: for people to tell it from others.
        has_agent: whether core-infra's agent runs in it.
        console: the guest's name of the serial line that its kernel talks to, like ``ttyS0``.
    """

    kernel: Path
    initrd: Path | None
    cmdline: str
    arch: str
    name: str
    has_agent: bool
    console: str


def built_image(directory: Path) -> Image:
    """The image that core-infra has built in ``directory``.

    Raises:
        NotFoundError: there is none.
        InvalidError: it is damaged.
    """
    return Image(**read_manifest(directory))


def load_image(path: str | os.PathLike[str]) -> Image:
    """The image at ``path``, for ``--core-vm-image``.

    Args:
        path: what the three files' names begin with, or one of the files, or a directory that holds
            one set or an image that core-infra has built. The file with the command line may be
            missing: then the kernel gets only ``console=``.

    Raises:
        NotFoundError: there is no such set, or a part of it is missing.
        InvalidError: a file can't be read, is empty, or is no kernel; a directory holds several
            sets; a built image is damaged.
    """
    given = Path(path).expanduser().absolute()
    if given.is_dir() and (given / MANIFEST).exists():
        return built_image(given)
    prefix = _prefix(given)
    kernel, initrd = Path(f"{prefix}{_KERNEL}"), Path(f"{prefix}{_INITRD}")
    arch = _arch(kernel)
    _read(initrd, 1)
    cmdline = _cmdline(Path(f"{prefix}{_CMDLINE}"), arch)
    return Image(
        kernel=kernel,
        initrd=initrd,
        cmdline=cmdline,
        arch=arch,
        name=Path(prefix).name,
        has_agent=False,
        console=_CONSOLE.findall(cmdline)[-1],
    )


def _prefix(given: Path) -> str:
    if given.is_dir():
        return _prefix_in(given)
    for suffix in (_KERNEL, _INITRD, _CMDLINE):
        if given.name.endswith(suffix):
            return str(given).removesuffix(suffix)
    if given.is_file() and not Path(f"{given}{_KERNEL}").exists():
        found = describe(_read(given, LOOK))
        raise InvalidError(f"The file {given} is no image", why=f"it is {found}", todo=_FORM)
    return str(given)


def _prefix_in(directory: Path) -> str:
    prefixes = [str(path).removesuffix(_KERNEL) for path in sorted(directory.glob(f"*{_KERNEL}"))]
    if not prefixes:
        raise NotFoundError(f"There is no image in the directory {directory}", todo=_FORM)
    if len(prefixes) > 1:
        raise InvalidError(
            f"The directory {directory} holds {len(prefixes)} images",
            why=f"they are {', '.join(Path(prefix).name for prefix in prefixes)}",
            todo=f"Say which, for instance {prefixes[0]}.",
        )
    return prefixes[0]


def _arch(kernel: Path) -> str:
    head = _read(kernel, LOOK)
    arch = kernel_arch(head)
    if arch is None:
        raise InvalidError(
            f"The file {kernel} is no kernel that can be started",
            why=f"it is {describe(head)}; a kernel is a bzImage, an ELF file or an arm64 Image, "
            f"for {' or '.join(CONSOLES)}",
        )
    return arch


def _cmdline(path: Path, arch: str) -> str:
    text = ""
    if path.exists():
        try:
            text = " ".join(_read(path, 1 << 16).decode().split())
        except UnicodeDecodeError as error:
            raise InvalidError(f"The kernel's command line {path} is no text") from error
    # Without a console a machine that fails says nothing.
    return text if _CONSOLE.search(text) else f"console={CONSOLES[arch]} {text}".rstrip()


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except FileNotFoundError as error:
        raise NotFoundError(f"The image has no file {path}", todo=_FORM) from error
    except OSError as error:
        raise InvalidError(
            f"The image's file {path} can't be read", why=error.strerror or str(error)
        ) from error
    if not data:
        raise InvalidError(f"The image's file {path} is empty", why="it has 0 bytes")
    return data
