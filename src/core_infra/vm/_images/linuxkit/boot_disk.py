"""Writes disks and discs that boot an image without anything else: NAME.raw, NAME.qcow2, NAME.iso.

A disk has one partition, a FAT file system with the kernel, the initrd and two boot loaders: that
of systemd, which UEFI starts, and on x86-64 syslinux for a BIOS. The disc has the same content.
No right and no machine is needed: mtools writes the file system. Equal images give equal bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, InvalidError, NotFoundError, UnavailableError
from core_infra.vm._cache import cache_root
from core_infra.vm._free_space import no_room, says_full
from core_infra.vm._images.default.builder import packed_kernel
from core_infra.vm._images.default.kernel import unwrap
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit.contents import host_package
from core_infra.vm._images.linuxkit.el_torito import add_disc
from core_infra.vm._images.linuxkit.kept_packages import kept_packages
from core_infra.vm._images.magic import KERNEL_HEAD, describe, kernel_kind
from core_infra.vm._images.programs import run
from core_infra.vm._images.qemu_img import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._images.linuxkit.contents import Package
    from core_infra.vm._images.linuxkit.plan import Plan

DISKS = ("raw", "qcow2", "iso")
"""The formats that boot by themselves."""
_SECTOR, _MIB = 512, 1 << 20
_START = _MIB  # of the partition
_LEAST = 40 * _MIB  # FAT32 has at least 65525 clusters
_LARGE = 512 * _MIB
_LARGEST = (1 << 32) - 1  # bytes of a file of FAT
_ESP = 0xEF  # the type of the partition
_CODE = 440  # bytes of a boot sector before its partition table
_OTHERS = "Use the formats kernel+initrd or tar."
_EFI = {
    "x86_64": ("systemd-bootx64.efi", "BOOTX64.EFI"),
    "aarch64": ("systemd-bootaa64.efi", "BOOTAA64.EFI"),
}
_BOOTABLE = {"x86_64": ("bzimage",), "aarch64": ("arm64", "zboot")}
_ENTRY = "title Linux\nlinux /kernel\ninitrd /initrd.img\noptions {cmdline}\n"
_SYSLINUX = "DEFAULT linux\nLABEL linux\nLINUX /kernel\nINITRD /initrd.img\nAPPEND {cmdline}\n"


@dataclass(frozen=True)
class Parts:
    """The files of an image: what a machine boots from."""

    kernel: Path
    initrd: Path
    cmdline: str


def write_disks(
    parts: Parts, directory: Path, *, name: str, formats: Sequence[str], plan: Plan, work: Path
) -> tuple[Package, ...]:
    """Write disks that boot an image.

    Args:
        parts: the image.
        directory: where they are written to.
        name: what their names begin with.
        formats: which of DISKS are written.
        plan: what the image was made of.
        work: a directory for temporary files.

    Returns:
        The packages of the boot loaders.

    Raises:
        InvalidError: no boot loader starts the kernel, or a file is too large.
        UnavailableError: there is no room, a program is missing, or the boot loaders' packages
            cannot be had.
    """
    loader = _Loader(plan.arch, work / "boot-loader", plan.progress)
    kernel = _bootable_kernel(parts.kernel, plan, work)
    raw = (directory if "raw" in formats else work) / f"{name}.raw"
    loader.write(raw, Parts(kernel, parts.initrd, " ".join(parts.cmdline.split())))
    if "qcow2" in formats:
        target = directory / f"{name}.qcow2"
        convert(raw, "raw", target, lambda _percent: None, about=raw)
    if "iso" in formats:
        disc = directory / f"{name}.iso"
        run(["cp", "--sparse=always", "--reflink=auto", str(raw), str(disc)])
        add_disc(disc, _START)
    return loader.packages


class _Loader:
    """Boot loaders of this host's distribution, and the programs that install them."""

    def __init__(self, arch: str, unpacked: Path, progress: Callable[[str], None]) -> None:
        self._arch = arch
        self._unpacked = unpacked
        self._has_bios = arch == "x86_64"
        own = ["mtools"]
        if self._has_bios:
            if host_arch() != arch:
                raise UnavailableError(
                    f"cannot write a disk for {arch} on {host_arch()}",
                    why="the installer of its boot loader runs on x86-64 only",
                    todo="Use the formats kernel+initrd or tar, or build it on an x86-64 host.",
                )
            own += ["syslinux", "syslinux-common"]
        try:
            found = [
                *kept_packages("boot-loader", own, host_arch(), progress=progress),
                *kept_packages("boot-loader-uefi", ["systemd-boot-efi"], arch, progress=progress),
            ]
        except NotFoundError as error:
            raise UnavailableError(
                "cannot write a disk that boots by itself", why=error.what, todo=_OTHERS
            ) from error
        for path in found:
            run(["dpkg-deb", "--extract", str(path), str(unpacked)])
        self.packages = tuple(
            host_package(*path.name.split("_")[:2])
            for path in found
            if not path.name.startswith("mtools_")
        )

    def write(self, path: Path, parts: Parts) -> None:
        """Write a raw disk that boots an image."""
        sizes = [file.stat().st_size for file in (parts.kernel, parts.initrd)]
        if max(sizes) > _LARGEST:
            raise InvalidError(
                f"cannot write the image to {path.name}",
                why="its initrd has more than 4 GiB, which FAT cannot hold",
                todo=_OTHERS,
            )
        needed = max(_LEAST, sum(sizes) * 51 // 50 + 4 * _MIB)
        size = -(-needed // _MIB) * _MIB
        with path.open("wb") as file:
            file.truncate(_START + size)
            os.posix_fallocate(file.fileno(), 0, _START + size)  # a full disk is noticed here
            file.write(self._boot_sector(size // _SECTOR))
        disk = f"{path}@@{_START}"
        clusters = "1" if size < _LARGE else "4"
        geometry = ("-h", "255", "-s", "63", "-H", str(_START // _SECTOR))
        sectors = str(size // _SECTOR)
        self._run(
            *("mformat", "-i", disk, "-F", "-c", clusters, "-T", sectors, *geometry),
            *("-N", "0", "-v", "BOOT", "::"),
        )
        self._copy(disk, parts)
        if self._has_bios:
            self._run("syslinux", "--install", "--offset", str(_START), str(path))

    def _copy(self, disk: str, parts: Parts) -> None:
        texts = {
            "loader/loader.conf": "timeout 0\n",
            "loader/entries/linux.conf": _ENTRY.format(cmdline=parts.cmdline),
        }
        if self._has_bios:
            texts["syslinux.cfg"] = _SYSLINUX.format(cmdline=parts.cmdline)
        program, name = _EFI[self._arch]
        efi = self._unpacked / "usr/lib/systemd/boot/efi" / program
        files = {"kernel": parts.kernel, "initrd.img": parts.initrd, f"EFI/BOOT/{name}": efi}
        for number, (target, text) in enumerate(texts.items()):
            files[target] = self._unpacked / f"text-{number}"
            files[target].write_text(text)
        folders = ("EFI", "EFI/BOOT", "loader", "loader/entries")
        self._run("mmd", "-i", disk, *(f"::/{folder}" for folder in folders))
        for target, source in files.items():
            self._run("mcopy", "-i", disk, str(source), f"::/{target}")

    def _boot_sector(self, sectors: int) -> bytes:
        code = b""
        if self._has_bios:
            code = (self._unpacked / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
        no_chs = b"\xfe\xff\xff"
        entry = struct.pack("<B3sB3sII", 0x80, no_chs, _ESP, no_chs, _START // _SECTOR, sectors)
        return code.ljust(_CODE, b"\0") + b"core\0\0" + entry.ljust(64, b"\0") + b"\x55\xaa"

    def _run(self, program: str, *arguments: str) -> None:
        programs = self._unpacked / "usr" / "bin"
        environment = (  # times and zones would change the bytes
            *("SOURCE_DATE_EPOCH=315532800", "TZ=UTC", "MTOOLSRC=/dev/null"),
            f"PATH={programs}:{os.environ.get('PATH', os.defpath)}",
        )
        try:
            run(["env", *environment, str(programs / program), *arguments])
        except CommandFailedError as error:
            if says_full(error.why):
                raise no_room("the image", Path(arguments[-1]).parent) from error
            raise


def _bootable_kernel(kernel: Path, plan: Plan, work: Path) -> Path:
    """Return the kernel in a form that boot loaders start."""
    with kernel.open("rb") as file:
        head = file.read(KERNEL_HEAD)
    kind = kernel_kind(head)
    if kind in _BOOTABLE[plan.arch]:
        return kernel
    if kind == "gzip":
        unpacked = work / "kernel-unpacked"
        unpacked.write_bytes(unwrap(kernel.read_bytes()))
        return unpacked
    if "image" not in plan.file.kernel and plan.default is not None:
        return packed_kernel(plan.default, cache_root(), work / "kernel-package", plan.progress)
    raise InvalidError(
        "cannot write a disk that boots the image",
        why=f"no boot loader starts its kernel, which is {describe(head)}",
        todo="Use the format kernel+initrd, or the kernel's packed form (bzImage).",
    )
