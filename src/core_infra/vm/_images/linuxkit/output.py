"""Writes what was put together: NAME-kernel, NAME-initrd.img and NAME-cmdline, or NAME.tar."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.vm._free_space import written
from core_infra.vm._images.agent_injection import agent_files
from core_infra.vm._images.disk.tree import Node, Piece
from core_infra.vm._images.linuxkit.archives import content, write_cpio, write_tar
from core_infra.vm._images.linuxkit.assembly import Assembly
from core_infra.vm._images.linuxkit.boot_disk import DISKS, Parts, write_disks
from core_infra.vm._images.linuxkit.lock import find_lock
from core_infra.vm._images.linuxkit.plan import make_plan
from core_infra.vm._images.linuxkit.root import Root
from core_infra.vm._images.oci.store import remove_if_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.vm._images.linuxkit.contents import Contents, Package
    from core_infra.vm._images.linuxkit.plan import Plan

FORMATS = ("kernel+initrd", "tar", *DISKS)
"""What an image can be written as."""
_LEVEL = 6
_GZIP = 31
"""Of zlib: the format of gzip, without a name and a time, on which the bytes would depend."""
_ALIGNMENT = 4
_WORK, _WHOLE = ".assembling-", "whole"


def build_files(
    files: Sequence[Path],
    directory: Path,
    *,
    name: str,
    arch: str,
    formats: Sequence[str],
    agent: bool = False,
    progress: Callable[[str], None],
    describe: Callable[[Path, Contents], None] | None = None,
) -> list[Path]:
    """Build the image of LinuxKit files, all or nothing; return the files that were written.

    Args:
        files: the LinuxKit files, merged from the first to the last. The first may have a lock.
        directory: where the result is written to; it is made if it does not exist.
        name: what the names of the result begin with.
        arch: the machine's architecture, as ``uname -m`` prints it.
        formats: which of FORMATS are written.
        agent: put core_infra's agent into the image.
        progress: is called with a line of text before anything slow.
        describe: is called with the directory of the files, before they are moved to where they
            belong, and with what they were made of; it can write more files there.

    Raises:
        InvalidFileError: the files have mistakes; it has all of them.
        CoreInfraError: an image is not there, or damaged, or there is no room.
    """
    bases = [Path.cwd(), files[0].absolute().parent]
    texts = [(str(file), file.read_bytes()) for file in files]
    plan = make_plan(texts, arch, bases=bases, lock=find_lock(files[:1]), progress=progress)
    with written("the image", directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _workspace(directory) as work:
            made = work / "made"
            made.mkdir()
            assembly = _assembled(plan, work)
            if agent:
                for path, data in agent_files(arch).items():
                    pieces = (Piece(0, len(data), data=data),)
                    node = Node(stat.S_IFREG | 0o755, size=len(data), pieces=pieces)
                    assembly.root.add(path, node)
            loaders: tuple[Package, ...] = ()
            parts = made if "kernel+initrd" in formats else work
            disks = [one for one in DISKS if one in formats]
            if disks or parts == made:
                _write_kernel_and_initrd(assembly, plan, parts, name)
            if "tar" in formats:
                with (made / f"{name}.tar").open("wb") as file:
                    _write_tar(assembly, file)
            if disks:
                kernel, initrd = (parts / f"{name}-{end}" for end in ("kernel", "initrd.img"))
                image = Parts(kernel, initrd, assembly.cmdline)
                loaders = write_disks(image, made, name=name, formats=disks, plan=plan, work=work)
            if describe is not None:
                contents = assembly.contents()
                packages = tuple(sorted({*contents.packages, *loaders}))
                describe(made, replace(contents, packages=packages))
            return _put(made, directory)


def _put(made: Path, directory: Path) -> list[Path]:
    """Put files where they belong, in place of those of before; return them.

    What is killed halfway leaves no mix of old and new files; the next build in the directory puts
    the missing ones there.
    """
    names = sorted(path.name for path in made.iterdir())
    for name in names:
        if (directory / name).is_dir():
            raise InvalidError(f"cannot write {directory / name}", why="it is a directory")
    made.rename(made.with_name(_WHOLE))  # from here on, the new ones count
    _finish(made.parent, directory)
    return [directory / name for name in names]


def _finish(work: Path, directory: Path) -> None:
    """Put the files of a build where they belong, if it made all of them."""
    whole = work / _WHOLE
    names = sorted(path.name for path in whole.iterdir()) if whole.is_dir() else []
    if len(names) > 1:  # no old one may stand beside a new one
        for name in names:
            (directory / name).unlink(missing_ok=True)
    for name in names:
        (whole / name).replace(directory / name)
    if names:
        whole.rmdir()


@contextmanager
def _workspace(directory: Path) -> Iterator[Path]:
    """A directory for the time of a build, locked; what killed builds have left is removed."""
    above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(above, fcntl.LOCK_EX)
        for left in directory.glob(f"{_WORK}*"):
            remove_if_left(left, partial(_finish, directory=directory))
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=directory))
        lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(above)
    try:
        yield work
    finally:
        if not (work / _WHOLE).exists():  # otherwise the next build goes on with it
            shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


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
        tempfile.TemporaryDirectory(dir=directory, prefix=_WORK) as work,
    ):
        return _write_kernel_and_initrd(_assembled(plan, Path(work)), plan, directory, name)


def _assembled(plan: Plan, work: Path) -> Assembly:
    assembly = Assembly(plan, work)
    assembly.make()
    plan.progress("writing the image")
    return assembly


def _write_kernel_and_initrd(assembly: Assembly, plan: Plan, directory: Path, name: str) -> int:
    with (directory / f"{name}-kernel").open("wb") as file:
        _copy(assembly.kernel, file)
    with (directory / f"{name}-initrd.img").open("wb") as file:
        size = _write_initrd(assembly, file, plan)
    (directory / f"{name}-cmdline").write_text(f"{assembly.cmdline}\n")
    return size


def _write_tar(assembly: Assembly, file: BinaryIO) -> None:
    """Write the whole as one archive, with the kernel and its command line in ``boot``."""
    root = Root()
    root.put(assembly.root.tree)
    root.add("boot/kernel", replace(assembly.kernel, mode=stat.S_IFREG | 0o644))
    root.add_text("boot/cmdline", assembly.cmdline)
    if assembly.microcode is not None:
        root.add("boot/ucode.cpio", assembly.microcode)
    write_tar(root.tree, file)


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
