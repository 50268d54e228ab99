"""Writes what was put together: NAME-kernel, NAME-initrd.img and NAME-cmdline."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core_infra.vm._free_space import written
from core_infra.vm._images.linuxkit.assembler import Assembly
from core_infra.vm._images.linuxkit.cpio import content, write_cpio

if TYPE_CHECKING:
    from core_infra.vm._images.linuxkit.plan import Plan

_LEVEL = 6
_GZIP = 31
"""Of zlib: the format of gzip, without a name and a time, so that the bytes depend on nothing else."""
_ALIGNMENT = 4


def write_kernel_and_initrd(plan: Plan, directory: Path, name: str) -> None:
    """Make an image of a kernel, an initrd and a command line.

    Args:
        plan: what it is made of.
        directory: where it is written to.
        name: what the files' names begin with.

    Raises:
        InvalidError: an image is damaged, or holds what an initrd cannot.
        UnavailableError: there is no room for it.
    """
    with (
        written("the image", directory),
        tempfile.TemporaryDirectory(dir=directory, prefix=".assembling-") as work,
    ):
        assembly = Assembly(plan, Path(work))
        assembly.make()
        plan.progress("writing the image")
        with (directory / f"{name}-kernel").open("wb") as file:
            for piece in content(assembly.kernel):
                file.write(piece)
        with (directory / f"{name}-initrd.img").open("wb") as file:
            _write_initrd(assembly, file, plan)
        cmdline = plan.file.kernel.get("cmdline", "")
        (directory / f"{name}-cmdline").write_text(f"{cmdline}\n" if cmdline else "")


def _write_initrd(assembly: Assembly, file: BinaryIO, plan: Plan) -> None:
    if assembly.microcode is not None:  # the kernel looks for it before it can unpack anything
        for piece in content(assembly.microcode):
            file.write(piece)
        file.write(bytes(-file.tell() % _ALIGNMENT))
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    write_cpio(
        assembly.root.tree, lambda data: file.write(packer.compress(data)), warn=plan.progress
    )
    file.write(packer.flush())
