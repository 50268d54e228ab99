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
    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.linuxkit.plan import Plan

_LEVEL = 6
_GZIP = 31
"""Of zlib: the format of gzip, without a name and a time, on which the bytes would depend."""
_ALIGNMENT = 4


def write_kernel_and_initrd(plan: Plan, directory: Path, name: str) -> int:
    """Make an image of a kernel, an initrd and a command line; return its unpacked size in bytes.

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
            _copy(assembly.kernel, file)
        with (directory / f"{name}-initrd.img").open("wb") as file:
            size = _write_initrd(assembly, file, plan)
        (directory / f"{name}-cmdline").write_text(f"{assembly.cmdline}\n")
    return size


def _write_initrd(assembly: Assembly, file: BinaryIO, plan: Plan) -> int:
    if assembly.microcode is not None:  # the kernel looks for it before it can unpack anything
        _copy(assembly.microcode, file)
        file.write(bytes(-file.tell() % _ALIGNMENT))
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    size = 0

    def write(data: bytes) -> None:
        nonlocal size
        size += len(data)
        file.write(packer.compress(data))

    write_cpio(assembly.root.tree, write, warn=plan.progress)
    file.write(packer.flush())
    return size


def _copy(source: Node, file: BinaryIO) -> None:
    file.writelines(content(source))
