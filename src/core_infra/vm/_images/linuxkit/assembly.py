"""Builds images of LinuxKit files by the program ``linuxkit``, or another :class:`Assembler`."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock

from core_infra._host import SHORT_NAMES
from core_infra.errors import UnavailableError
from core_infra.vm._cache import cache_root, found, writable
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.kernel_set import load_kernel_set
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.vm._images.image import Image

_NAME = "image"
_PATIENCE = 3600.0


class Assembler(Protocol):
    """Builds a kernel and an initrd from a LinuxKit file."""

    def version(self) -> str:
        """Its name and version: another version may build another image."""

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Write ``image-kernel``, ``image-initrd.img`` and ``image-cmdline`` to *directory*."""


class LinuxKitProgram:
    """The program ``linuxkit``, which fetches the parts that the file names from registries."""

    def version(self) -> str:
        """The output of ``linuxkit version``; UnavailableError if it is not installed."""
        if shutil.which("linuxkit") is None:
            raise UnavailableError(
                "cannot build an image from a template",
                why="linuxkit is not on PATH",
                todo="Install it from https://github.com/linuxkit/linuxkit/releases, or build the "
                "image elsewhere and run it: core-infra vm run PATH/NAME",
            )
        return run(["linuxkit", "version"], timeout=60)

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Build the image; CommandFailedError shows the program's output."""
        run(
            [
                *("linuxkit", "build", "--format", "kernel+initrd", "--name", _NAME),
                *("--arch", SHORT_NAMES.get(arch, arch), "--dir", str(directory), str(file)),
            ],
            timeout=_PATIENCE,
        )


def template_image(
    name: str, variables: Mapping[str, str], *, progress: Callable[[str], None]
) -> Image:
    """The image of a template, from the cache; built first by ``linuxkit`` if it is not there.

    Args:
        name: the template's name.
        variables: the values of its variables.
        progress: called with a line before it takes long.

    Raises:
        NotFoundError: no template has this name.
        MissingVariablesError: required variables are not given; names all of them.
        InvalidFileError: the template has mistakes; lists all of them.
        UnavailableError: linuxkit is not installed.
    """
    text = TemplateManager().linuxkit_file(name, variables)
    return build_image(text, LinuxKitProgram(), progress=progress)


def build_image(
    text: str,
    assembler: Assembler,
    *,
    arch: str | None = None,
    progress: Callable[[str], None],
) -> Image:
    """The image of a LinuxKit file, from the cache; built first if it is not there.

    Args:
        text: the file's text, with all variables substituted.
        assembler: the program that builds it.
        arch: the machine's architecture; None is this host's.
        progress: called with a line before it takes long.

    Raises:
        UnavailableError: the program that builds it is not installed.
        CommandFailedError: it failed; shows its output.
        InvalidError: its result is not an image.
    """
    arch, cache = arch or host_arch(), cache_root()
    identity = f"{assembler.version()}\0{arch}\0{text}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = found(cache / "linuxkit", key) or writable(cache / "linuxkit") / key
    if target.is_dir():
        return load_kernel_set(target / _NAME)
    with FileLock(target.parent / f"{key}.lock"):
        if not target.is_dir():
            progress("building the image; the first time, this fetches its parts")
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as work:
                file = Path(work) / f"{_NAME}.yml"
                # It may have secrets; only this user can access its directory.
                file.write_text(text)
                made = Path(work) / "made"
                made.mkdir()
                assembler.assemble(file, made, arch)
                load_kernel_set(made / _NAME)
                made.rename(target)
    return load_kernel_set(target / _NAME)
