"""Images that are a set of files: NAME-kernel, NAME-initrd.img, NAME-cmdline and NAME-disk.*."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._images.image import CONSOLES, Image
from core_infra.vm._images.magic import LOOK, describe, kernel_arch
from core_infra.vm._images.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    import os

_KERNEL = "-kernel"
_INITRD = "-initrd.img"
_CMDLINE = "-cmdline"
_DISK = "-disk"
_FORM = (
    "An image is three files: NAME-kernel, NAME-initrd.img and NAME-cmdline. "
    "Give NAME, one of the files, or a directory with one such set."
)
_CONSOLE = re.compile(r"(?<!\S)console=([^\s,]+)")
_ROOT = re.compile(r"(?<!\S)root=")


def load_kernel_set(path: str | os.PathLike[str]) -> Image:
    """The image whose files have names that begin with *path*.

    Args:
        path: the common part of the files' names, one of the files, or a directory with one set or
            with an image that core-infra has built. Without a file for the command line, the kernel
            gets only ``console=``. A disk named NAME-disk with any extension is the machine's first
            one.

    Raises:
        NotFoundError: the set, or a file of it, does not exist.
        InvalidError: a file cannot be read, is empty, or is not a kernel; a directory holds several
            sets; a built image is damaged.
    """
    given = Path(path).expanduser().absolute()
    if given.is_dir() and (given / MANIFEST).exists():
        return built_image(given)
    prefix = _prefix(given)
    kernel, initrd = Path(f"{prefix}{_KERNEL}"), Path(f"{prefix}{_INITRD}")
    arch_of_kernel(kernel)
    check_content(initrd)
    cmdline = read_cmdline(Path(f"{prefix}{_CMDLINE}"))
    return kernel_image(kernel, initrd, cmdline, name=Path(prefix).name, disk=_disk(prefix))


def built_image(directory: Path) -> Image:
    """The image that core-infra has built in *directory*.

    Raises:
        NotFoundError: the directory has no built image.
        InvalidError: it is damaged.
    """
    fields = read_manifest(directory)
    if (run := fields.get("run")) is not None:
        commands = {name: tuple(run[name]) for name in ("entrypoint", "cmd")}
        fields["run"] = RunConfig(**(run | commands))
    return Image(**fields)


def kernel_image(
    kernel: Path, initrd: Path | None, cmdline: str, *, name: str, disk: Path | None = None
) -> Image:
    """The image of a kernel. ``console=`` and ``root=`` are added to *cmdline* if missing.

    LinuxKit files name the serial lines of all architectures. The kernel prefers the last one that
    is named: if it does not exist, ``/dev/console`` is the screen. So the others are left out.

    Raises:
        NotFoundError: the kernel does not exist.
        InvalidError: the file is not a bootable kernel.
    """
    arch = arch_of_kernel(kernel)
    if disk is not None and not _ROOT.search(cmdline):
        cmdline = f"root=/dev/vda rw {cmdline}".rstrip()
    others = {f"console={line}" for line in CONSOLES.values() if line != CONSOLES[arch]}
    words = cmdline.split(" ")
    cmdline = " ".join(word for word in words if word.partition(",")[0] not in others)
    if not _CONSOLE.search(cmdline):  # without one, a machine that fails prints nothing
        cmdline = f"console={CONSOLES[arch]} {cmdline}".rstrip()
    console = _CONSOLE.findall(cmdline)[-1]
    return Image(kernel, initrd, cmdline, arch, name, has_agent=False, console=console, disk=disk)


def files_beside(kernel: Path) -> tuple[Path | None, str]:
    """The initrd and the command line that belong to NAME-kernel by their names, if any."""
    if not kernel.name.endswith(_KERNEL):
        return None, ""
    prefix = str(kernel).removesuffix(_KERNEL)
    initrd = Path(f"{prefix}{_INITRD}")
    return initrd if initrd.exists() else None, read_cmdline(Path(f"{prefix}{_CMDLINE}"))


def only_kernel(directory: Path) -> Path | None:
    """The NAME-kernel of the only set in a directory; None if the directory has no set.

    Raises:
        InvalidError: the directory has several sets.
    """
    try:
        return Path(f"{_prefix_in(directory)}{_KERNEL}")
    except NotFoundError:
        return None


def arch_of_kernel(kernel: Path) -> str:
    """The architecture of a kernel's file, as ``uname -m`` prints it.

    Raises:
        NotFoundError: the file does not exist.
        InvalidError: it cannot be read, or is not a bootable kernel.
    """
    head = _read(kernel, LOOK)
    arch = kernel_arch(head)
    if arch is None:
        raise InvalidError(
            f"The file {kernel} is not a bootable kernel",
            why=f"it is {describe(head)}; a kernel is a bzImage, an ELF file or an arm64 Image, "
            f"for {' or '.join(CONSOLES)}",
        )
    return arch


def read_cmdline(path: Path) -> str:
    """The command line in a file, as one line; "" if the file does not exist."""
    if not path.exists():
        return ""
    try:
        return " ".join(_read(path, 1 << 16).decode().split())
    except UnicodeDecodeError as error:
        raise InvalidError(f"The kernel's command line {path} must be text") from error


def check_content(path: Path) -> None:
    """Raise CoreInfraError unless the file exists, can be read and is not empty."""
    _read(path, 1)


def _prefix(given: Path) -> str:
    if given.is_dir():
        return _prefix_in(given)
    for suffix in (_KERNEL, _INITRD, _CMDLINE):
        if given.name.endswith(suffix):
            return str(given).removesuffix(suffix)
    if given.is_file() and not Path(f"{given}{_KERNEL}").exists():
        found = describe(_read(given, LOOK))
        raise InvalidError(f"The file {given} is not an image", why=f"it is {found}", todo=_FORM)
    return str(given)


def _prefix_in(directory: Path) -> str:
    prefixes = [str(path).removesuffix(_KERNEL) for path in sorted(directory.glob(f"*{_KERNEL}"))]
    if not prefixes:
        raise NotFoundError(f"There is no image in the directory {directory}", todo=_FORM)
    if len(prefixes) > 1:
        raise InvalidError(
            f"The directory {directory} holds {len(prefixes)} images",
            why=f"they are {', '.join(Path(prefix).name for prefix in prefixes)}",
            todo=f"Name one of them, for example {prefixes[0]}.",
        )
    return prefixes[0]


def _disk(prefix: str) -> Path | None:
    base = Path(prefix)
    found = sorted(base.parent.glob(f"{glob.escape(base.name)}{_DISK}.*"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InvalidError(
            f"The image {base.name} has {len(found)} disks",
            why=f"they are {names}",
            todo="Name its first disk in a file image.yaml beside it, as disk: FILE.",
        )
    return found[0] if found else None


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
