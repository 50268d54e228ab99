"""From a LinuxKit file to an image: by the program ``linuxkit``.

The seam for another assembler is :class:`Assembler`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock

from core_infra.errors import UnavailableError
from core_infra.vm._cache import found, writable
from core_infra.vm._images.image import load_image
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.image import Image

_NAME = "image"
_PATIENCE = 3600.0
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


class Assembler(Protocol):
    """Makes a kernel and an initrd of a LinuxKit file."""

    def version(self) -> str:
        """What it is: another version may make another image."""

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Write ``image-kernel``, ``image-initrd.img`` and ``image-cmdline`` to *directory*."""


class LinuxKitProgram:
    """The program ``linuxkit``, which fetches what the file names from registries."""

    def version(self) -> str:
        """What the program says of itself; UnavailableError if it is not installed."""
        if shutil.which("linuxkit") is None:
            raise UnavailableError(
                "cannot build an image from a template",
                why="linuxkit is not on PATH",
                todo="Install it from https://github.com/linuxkit/linuxkit/releases, or build the "
                "image elsewhere and run it: core-infra vm run PATH/NAME",
            )
        return run(["linuxkit", "version"], timeout=60)

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Build the image; CommandFailedError shows what the program said."""
        run(
            [
                *("linuxkit", "build", "--format", "kernel+initrd", "--name", _NAME),
                *("--arch", _ARCHES.get(arch, arch), "--dir", str(directory), str(file)),
            ],
            timeout=_PATIENCE,
        )


def build(
    text: str,
    *,
    arch: str,
    cache: Path,
    assembler: Assembler,
    tell: Callable[[str], None],
) -> Image:
    """The image of a LinuxKit file, built unless it is in the cache.

    Args:
        text: the file, with all variables filled in.
        arch: the machine's architecture.
        cache: the directory whose ``linuxkit`` holds what was built.
        assembler: builds it.
        tell: is given a line before it takes long.

    Raises:
        UnavailableError: the program that builds it is not installed.
        CommandFailedError: it failed; shows what it said.
        InvalidError: what it built is no image.
    """
    identity = f"{assembler.version()}\0{arch}\0{text}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = found(cache / "linuxkit", key) or writable(cache / "linuxkit") / key
    if target.is_dir():
        return load_image(target / _NAME)
    with FileLock(target.parent / f"{key}.lock"):
        if not target.is_dir():
            tell("building the image; the first time, this fetches its parts")
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as work:
                file = Path(work) / f"{_NAME}.yml"
                # It may have secrets: its directory is this user's only.
                file.write_text(text)
                made = Path(work) / "made"
                made.mkdir()
                assembler.assemble(file, made, arch)
                load_image(made / _NAME)
                made.rename(target)
    return load_image(target / _NAME)
